# tools/lib.sh - what tools/demo and tools/check have in common
#
# Sourced by bash, never run.  Takes a Debian or Ubuntu machine with nothing
# but a shell to a private PostgreSQL with distlock in it, without touching
# anything that was there before: packages are added, nothing else outside
# $WORK changes, and $WORK goes away at the end, however the end comes.
#
# In the order of use:
#
#	begin NAME				$WORK, $LOG and the clean-up at exit
#	set_up [MAJOR [PKG...]]	all of the next five, for the usual case
#	  choose_version [MAJOR]  sets $PGMAJOR
#	  install_missing PKG...  apt-get, only what is not there
#	  choose_user			sets $RUN_USER, who is never root
#	  make_private_tree		a copy of PostgreSQL; sets $PGBIN, $PG_CONFIG
#	  build_and_install		compiles a copy of the sources into that tree
#	server_create NAME [LINE...]	initdb; the lines go to postgresql.conf
#	server_start NAME, server_stop NAME [MODE]
#	provide_redis [valkey]	a copy of Redis that comes first in PATH
#	redis_start NAME [OPTION...]	on the socket $WORK/run/NAME.sock, and no port
#
# and for all seasons:
#
#	say TEXT, warn TEXT, die TEXT
#	quietly WHAT CMD...		output to a log, shown only if CMD fails
#	as_user CMD...			in $WORK, as $RUN_USER, libpq pointed at the server
#	as_root CMD...			directly or by sudo
#	on_exit CMD...			clean-up, last come first served
#	run_job SECONDS CMD...	with a time limit, and interruptible
#
# A command that wants to leave its work behind sets KEEP_WORK=1, and
# KEEP_SERVERS=1 if the servers shall go on running.

# (Mind that with pipefail no pipe may end in a command that stops reading, as
# head and grep -q do: its writer would now and then fail.)
set -euo pipefail

REPO=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
KEEP_WORK=0
KEEP_SERVERS=0
SERVER_KIND=		# a server built from source: see server.sh

# The caller's surroundings must not decide what is tested: no libpq or make
# settings from outside, one locale, and files that $RUN_USER can read.
unset "${!PG@}" MAKEFLAGS MFLAGS MAKELEVEL GNUMAKEFLAGS PERL5LIB PROVE_FLAGS \
	CDPATH BASH_ENV DESTDIR TEMP_CONFIG 2>/dev/null || true
export LC_ALL=C.UTF-8
PATH=$PATH:/usr/local/sbin:/usr/sbin:/sbin
umask 022

# ---------------------------------------------------------------- talking --

say()
{
	printf '[%4ds] %s\n' "$SECONDS" "$*"
}

warn()
{
	printf '[%4ds] note: %s\n' "$SECONDS" "$*" >&2
}

die()
{
	printf '%s: %s\n' "${0##*/}" "$*" >&2
	exit 1
}

# Run a command whose output is of interest only if it fails.  (In a subshell:
# were it a function of ours that we redirect, the traps would write to the
# log as well.)
quietly()
{
	local what=$1 log status=0
	shift

	log=$LOG/${what//[^a-zA-Z0-9]/-}.log
	("$@") >>"$log" 2>&1 </dev/null || status=$?
	if [ "$status" -ne 0 ]; then
		printf -- '---- last lines of %s\n' "$log" >&2
		tail -n 40 "$log" >&2
		die "$what failed (exit status $status)"
	fi
}

# ------------------------------------------------- beginning and ending --

CLEANUP=()
JOB=
TIMER=

# Make $WORK and see to it that it goes away.
begin()
{
	local tmp=${TMPDIR:-/tmp}

	# A socket's path has room for 107 bytes; TAP tests add some 40 of theirs.
	[ "${#tmp}" -le 40 ] || tmp=/tmp
	WORK=$(mktemp -d "$tmp/distlock-$1.XXXXXX")
	LOG=$WORK/log
	mkdir "$LOG" "$WORK/tmp" "$WORK/run"
	chmod 755 "$WORK"
	trap finish EXIT
	trap 'trap "" INT TERM HUP; exit 129' HUP
	trap 'trap "" INT TERM HUP; exit 130' INT
	trap 'trap "" INT TERM HUP; exit 143' TERM
}

on_exit()
{
	CLEANUP+=("$(printf '%q ' "$@")")
}

# The EXIT trap: what was begun is ended, whatever went wrong.  Nothing is
# printed after $LAST_WORDS, a command.
LAST_WORDS=:
finish()
{
	local status=$? i

	trap - EXIT
	set +eu
	if [ "$status" -gt 128 ]; then
		say "interrupted, cleaning up" >&2
	fi
	end_job
	for ((i = ${#CLEANUP[@]} - 1; i >= 0; i--)); do
		eval "${CLEANUP[i]}"
	done
	[ "$KEEP_SERVERS" = 1 ] || end_servers
	if [ "$KEEP_WORK" = 1 ] || [ "$KEEP_SERVERS" = 1 ]; then
		say "kept: $WORK"
	else
		cd /
		rm -rf --one-file-system "$WORK"
	fi
	"$LAST_WORDS"
	exit "$status"
}

# Run a command in a process group of its own, for at most that many seconds
# (exit status 124 then).  While it runs we sit in wait, which a signal
# interrupts at once; the group lets us end its grandchildren too.
run_job()
{
	local limit=$1 status=0
	shift

	set -m
	"$@" </dev/null &
	JOB=$!
	sleep "$limit" &
	TIMER=$!
	set +m
	wait -n "$JOB" "$TIMER" || status=$?
	kill -0 "$TIMER" 2>/dev/null || status=124
	end_job || true
	return "$status"
}

# Ask the job politely first: TAP tests then stop the servers they started.
end_job()
{
	local i

	[ -n "$JOB" ] || return 0
	kill "$TIMER" 2>/dev/null
	kill -TERM -- "-$JOB" 2>/dev/null
	for ((i = 0; i < 300; i++)); do
		kill -0 -- "-$JOB" 2>/dev/null || break
		sleep 0.1
	done
	kill -KILL -- "-$JOB" 2>/dev/null
	wait "$JOB" "$TIMER" 2>/dev/null
	JOB=
	return 0
}

# Every process that runs a program from our private tree was started by us or
# by a test; no other process can.  What valgrind runs it only names.
our_processes()
{
	local exe

	for exe in /proc/[0-9]*/exe; do
		case $(readlink "$exe" 2>/dev/null || true) in
			"$WORK"/*) ;;
			*/valgrind/*) grep -aqsF "$WORK/" "${exe%exe}cmdline" || continue ;;
			*) continue ;;
		esac
		exe=${exe#/proc/}
		echo "${exe%/exe}"
	done
}

# Servers that nobody stopped: a TAP test may have been killed.
end_servers()
{
	local i pids

	for ((i = 0; i < 100; i++)); do
		pids=$(our_processes)
		[ -n "$pids" ] || return 0
		# a postmaster understands this as "immediate shutdown"
		# shellcheck disable=SC2086
		[ "$i" != 0 ] || kill -QUIT $pids 2>/dev/null
		# shellcheck disable=SC2086
		[ "$i" != 50 ] || kill -KILL $pids 2>/dev/null
		sleep 0.1
	done
	return 0
}

# --------------------------------------------------------------- packages --

as_root()
{
	if [ "$(id -u)" = 0 ]; then
		"$@"
	else
		sudo "$@"
	fi
}

packages_to_build()
{
	echo "postgresql-$1 postgresql-client-$1 postgresql-server-dev-$1" \
		"make gcc libc6-dev pkg-config libhiredis-dev libssl-dev"
}

# Which server plays Redis: Valkey with the newest PostgreSQL, so that both are
# tested.
redis_flavour()
{
	if [ "$1" -ge 18 ]; then echo valkey; else echo redis; fi
}

# Not the package with the server, which is but a service made of what is in this
# one.
packages_for_redis()
{
	echo "${1:-redis}-tools"
}

is_installed()
{
	[ "$(dpkg-query -W -f '${db:Status-Status}' "$1" 2>/dev/null)" = installed ]
}

is_available()
{
	[ -n "$(LC_ALL=C apt-cache policy "$1" 2>/dev/null |
		sed -n 's/^  Candidate: [^(]/&/p')" ]
}

# Majors that are installed with their headers, or can be, newest first.
installed_majors()
{
	local n

	for n in /usr/lib/postgresql/*/bin/pg_config; do
		n=${n#/usr/lib/postgresql/}
		n=${n%/bin/pg_config}
		if is_installed "postgresql-$n" &&
			is_installed "postgresql-server-dev-$n"; then
			echo "$n"
		fi
	done | sort -rn
}

available_majors()
{
	local n

	apt-cache pkgnames postgresql-server-dev- 2>/dev/null |
		sed -n 's/^postgresql-server-dev-\([0-9][0-9]*\)$/\1/p' | sort -rn |
		while read -r n; do
			if is_available "postgresql-server-dev-$n"; then
				echo "$n"
			fi
		done
}

# A fresh machine has no package lists, an old one has stale ones.  A broken
# third-party source is not our business, hence no failure here.
APT_UPDATED=0
apt_update()
{
	[ "$APT_UPDATED" = 0 ] || return 0
	command -v apt-get >/dev/null ||
		die "no apt-get here: this needs Debian or Ubuntu"
	if [ "$(id -u)" != 0 ] && ! command -v sudo >/dev/null; then
		die "packages must be installed: run this as root, or install sudo"
	fi
	say "updating the package lists"
	as_root apt-get -q update >>"$LOG/apt-update.log" 2>&1 </dev/null ||
		warn "apt-get update: $(tail -n 1 "$LOG/apt-update.log")"
	APT_UPDATED=1
}

# Sets PGMAJOR: the one asked for, else the newest that is installed, else the
# newest that the distribution has.
choose_version()
{
	PGMAJOR=${1:-}
	if [ -z "$PGMAJOR" ]; then
		PGMAJOR=$(installed_majors | sed -n 1p)
	fi
	if [ -z "$PGMAJOR" ]; then
		apt_update
		PGMAJOR=$(available_majors | sed -n 1p)
		[ -n "$PGMAJOR" ] || die "the package archive has no PostgreSQL"
	fi
	[[ $PGMAJOR =~ ^[0-9]+$ ]] || die "not a major version: \"$PGMAJOR\""
	[ "$PGMAJOR" -ge 15 ] ||
		die "distlock needs PostgreSQL 15 or later, this would be $PGMAJOR"
	if ! is_installed "postgresql-server-dev-$PGMAJOR"; then
		apt_update
		is_available "postgresql-server-dev-$PGMAJOR" ||
			die "this distribution has no PostgreSQL $PGMAJOR"
	fi
}

# Packages like to start what they install, and PostgreSQL's makes a cluster.
# Two files that live only as long as the installation keep them from it.  An
# administrator's own stay.
HELD=()
hold_services()
{
	local policy=/usr/sbin/policy-rc.d
	local conf=/etc/postgresql-common/createcluster.d/distlock.conf

	on_exit release_services
	if [ ! -e "$policy" ]; then
		HELD+=("$policy")
		printf '#!/bin/sh\nexit 101\n' | as_root tee "$policy" >/dev/null
		as_root chmod 755 "$policy"
	fi
	HELD+=("$conf")
	as_root mkdir -p "${conf%/*}"
	echo "create_main_cluster = false" | as_root tee "$conf" >/dev/null
}

release_services()
{
	[ "${#HELD[@]}" = 0 ] || as_root rm -f "${HELD[@]}"
	HELD=()
}

install_missing()
{
	local p missing=() apt

	for p in "$@"; do
		is_installed "$p" || missing+=("$p")
	done
	[ "${#missing[@]}" -gt 0 ] || return 0

	apt_update
	# needrestart (Ubuntu) would restart other people's services
	apt=(as_root env DEBIAN_FRONTEND=noninteractive
		APT_LISTCHANGES_FRONTEND=none NEEDRESTART_SUSPEND=1
		apt-get -q -y --no-install-recommends
		-o DPkg::Lock::Timeout=300 -o Dpkg::Use-Pty=0)
	say "downloading ${missing[*]}"
	quietly "downloading packages" \
		"${apt[@]}" --download-only install "${missing[@]}"
	say "installing them"
	# Java's packages fail without it, and machines that keep no manuals have none.
	[ -d /usr/share/man/man1 ] || as_root mkdir -p /usr/share/man/man1
	hold_services
	quietly "installing packages" undisturbed "${apt[@]}" install "${missing[@]}"
	release_services
}

# Ctrl-C while dpkg is at work would leave the system with half a package.  So
# it gets a process group of its own, and whoever interrupts us waits for it.
# To be called in a subshell.
undisturbed()
{
	trap '' INT TERM HUP
	set -m
	"$@" &
	wait $!
}

# ------------------------------------------- the user and the private tree --

# PostgreSQL refuses to run as root.  Root therefore lends everything to the
# user that came with the package; anybody else works under his own name.
choose_user()
{
	if [ "$(id -u)" = 0 ]; then
		RUN_USER=postgres
		id "$RUN_USER" >/dev/null 2>&1 || die "there is no user \"$RUN_USER\""
	else
		RUN_USER=$(id -un)
	fi
	chown "$RUN_USER" "$WORK" "$WORK/tmp" "$WORK/run"
	chmod 700 "$WORK/run"
	as_user test -w "$WORK/tmp" ||
		die "user $RUN_USER cannot write to $WORK: set TMPDIR"
}

# Run a command unprivileged.  HOME is ours, so that no ~/.psqlrc, ~/.pgpass
# or ~/.proverc plays a part; libpq finds the server that was started last.
as_user()
{
	local become=()

	if [ "$(id -u)" = 0 ]; then
		become=(setpriv --reuid="$RUN_USER"
			--regid="$(id -g "$RUN_USER")" --init-groups)
	fi
	(
		cd "$WORK"
		exec "${become[@]}" env \
			HOME="$WORK/tmp" TMPDIR="$WORK/tmp" \
			USER="$RUN_USER" LOGNAME="$RUN_USER" \
			PATH="$WORK/bin:${PGBIN:+$PGBIN:}$PATH" \
			PGHOST="$WORK/run" PGPORT="${SERVER_PORT:-5432}" \
			PGUSER=postgres PGDATABASE="${SERVER_DB:-postgres}" \
			"$@"
	)
}

# Copy PostgreSQL.  Its programs find their libraries and share files relative
# to where they themselves are (after resolving symbolic links, so it must be
# a copy), and so does pg_config: an installation done with this pg_config
# lands in the copy.  Headers and system libraries are only read: links.
make_private_tree()
{
	local usr=$WORK/root/usr version=$PGMAJOR

	if [ -n "$SERVER_KIND" ]; then
		use_server
		return
	fi
	say "copying PostgreSQL $version to a private directory"
	as_user mkdir -p "$usr/lib/postgresql" "$usr/share/postgresql"
	as_user cp -rP "/usr/lib/postgresql/$version" "$usr/lib/postgresql/"
	as_user cp -rP "/usr/share/postgresql/$version" "$usr/share/postgresql/"
	[ -e "$usr/include" ] || as_user ln -s /usr/include "$usr/include"
	as_user ln -sf "$("/usr/lib/postgresql/$version/bin/pg_config" --libdir)" \
		"$usr/lib/"

	PGBIN=$usr/lib/postgresql/$version/bin
	PG_CONFIG=$PGBIN/pg_config
	[ "$(as_user "$PG_CONFIG" --sharedir)" = \
		"$usr/share/postgresql/$version" ] ||
		die "the copy of PostgreSQL does not find its own files"
}

# The checkout may be out of the user's sight, and shall stay clean: what is
# in it and not ignored by git is copied and compiled there.  This reads
# .gitignore itself, for a fresh machine has no git.
copy_sources()
{
	local to=$1

	as_user mkdir -p "$to"
	tar -C "$REPO" --exclude=./.git \
		--exclude-from=<(sed -e 's,^/,./,' -e 's,/$,,' "$REPO/.gitignore") \
		-cf - . |
		as_user tar -C "$to" --no-same-owner -xf -
}

# In $SOURCES, or else $WORK/src.  The arguments are for make.  with_llvm=no: bitcode
# for the JIT is of no use to us and takes another compiler.
# shellcheck disable=SC2120
build_and_install()
{
	local src=${SOURCES:-$WORK/src}

	say "compiling distlock"
	copy_sources "$src"
	quietly "compiling distlock" as_user make -C "$src" \
		-j "$(nproc)" PG_CONFIG="$PG_CONFIG" with_llvm=no "$@" all
	quietly "installing distlock" as_user make -C "$src" \
		PG_CONFIG="$PG_CONFIG" with_llvm=no "$@" install
}

set_up()
{
	choose_version "${1:-}"
	# shellcheck disable=SC2046
	install_missing $(packages_to_build "$PGMAJOR") "${@:2}"
	choose_user
	make_private_tree
	build_and_install
}

# ---------------------------------------------------------------- servers --

# All servers have their socket in $WORK/run, which only $RUN_USER can enter,
# and listen nowhere else; a port is but the name of a socket.
SERVER_PORT=5432

server_create()
{
	local name=$1 line
	shift

	quietly "initdb $name" as_user initdb -D "$WORK/$name" -U postgres \
		--auth=trust --encoding=UTF8 --locale=C.UTF-8
	for line in \
		"listen_addresses = ''" \
		"unix_socket_directories = '$WORK/run'" \
		"cluster_name = 'distlock $name'" \
		"$@"
	do
		echo "$line"
	done | cat - ${TEMP_CONFIG:+"$TEMP_CONFIG"} |
		as_user tee -a "$WORK/$name/postgresql.conf" >/dev/null
}

# server_start NAME [PORT]
server_start()
{
	SERVER_PORT=${2:-5432}
	quietly "starting server $1" as_user pg_ctl -D "$WORK/$1" -w -t "${PGCTLTIMEOUT:-60}" \
		-l "$WORK/$1.log" -o "-p $SERVER_PORT" start
}

server_stop()
{
	quietly "stopping server $1" as_user pg_ctl -D "$WORK/$1" -w -t "${PGCTLTIMEOUT:-60}" \
		-m "${2:-fast}" stop
}

# provide_redis [valkey]: one program is the server and the checker of dumps; it
# looks at the name under which it runs.  The copy is found and stopped at the end,
# see our_processes.
provide_redis()
{
	local name=${1:-redis} program

	program=$(command -v "$name-server" || command -v "$name-check-rdb") ||
		die "there is no $name-server here: install $name-tools"
	as_user mkdir -p "$WORK/bin"
	as_user cp "$program" "$WORK/bin/$name-server"
}

# redis_start NAME [OPTION...]: keeps nothing on disk
redis_start()
{
	local name=$1 i
	shift

	as_user mkdir -p "$WORK/$name"
	quietly "starting $name" as_user redis-server --daemonize yes --port 0 \
		--unixsocket "$WORK/run/$name.sock" --dir "$WORK/$name" \
		--logfile "$WORK/$name.log" --save '' --appendonly no "$@"
	for ((i = 0; i < 100; i++)); do
		! as_user redis-cli -s "$WORK/run/$name.sock" PING >/dev/null 2>&1 ||
			return 0
		sleep 0.1
	done
	die "$name does not answer: $(tail -n 3 "$WORK/$name.log" 2>/dev/null)"
}
