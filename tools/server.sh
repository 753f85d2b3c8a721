# tools/server.sh - PostgreSQL servers that are built from source, to watch memory
#
# Sourced by bash after lib.sh, never run.  A kind of server is one of
#
#	asan		with assertions, AddressSanitizer and UBSan, for distlock as well
#	valgrind	with assertions, run by valgrind, which knows PostgreSQL's allocator
#	discard		the same build without valgrind, and debug_discard_caches = 1
#
# They are made of the source package that the distribution has, at the first
# use, which takes some minutes, and kept in $SERVERS.
#
#	choose_server KIND			from then on make_private_tree, and so set_up, takes it
#	server_skips				prints the tests that are not for it
#	server_reports				prints what was found since; false if anything was
#	provide_server MAJOR KIND	makes it unless it is there; sets $SERVER_DIR
#	packages_for_server			what it takes to make it and run it

SERVERS=${XDG_CACHE_HOME:-/var/cache}/distlock
SERVER_KINDS=(asan valgrind discard)

# Times that are limits are multiplied by this; choose_server sets it.
SERVER_SLOWNESS=1

# What is undefined ends the process unless $UBSAN_OPTIONS says otherwise.
SANITIZERS="-fsanitize=address,undefined"

is_server_kind()
{
	[[ " ${SERVER_KINDS[*]} " == *" $1 "* ]]
}

# Says which kind make_private_tree (lib.sh) takes; nothing: the distribution's.
choose_server()
{
	is_server_kind "$1" || die "not a kind of server: \"$1\""
	SERVER_KIND=$1
	case $1 in
		asan) SERVER_SLOWNESS=4 ;;
		*) SERVER_SLOWNESS=20 ;;
	esac
	export DISTLOCK_SLOWNESS=$SERVER_SLOWNESS
}

packages_for_server()
{
	echo "gcc make libc6-dev bison flex perl libipc-run-perl pkg-config" \
		"zlib1g-dev libssl-dev xz-utils bzip2 diffutils valgrind"
}

# Tests that are not run with this server unless they are named: those that say how
# long something may take, or take for ever, where everything takes twenty times as
# long; and what was built for the distribution's own server.
server_skips()
{
	case $SERVER_KIND in
		'') ;;
		asan) echo 083_pg_cron ;;
		*) echo acquire bad_interval bad_pairs iso_handover_expiry iso_prepared 083_pg_cron ;;
	esac
}

# "valgrind" and "discard" share a build.
server_directory()
{
	local kind=$2

	[ "$kind" != discard ] || kind=valgrind
	echo "$SERVERS/server-$1-$kind"
}

# The upstream part of the source package of postgresql-MAJOR, without touching the
# lists of packages of this machine: its own sources, asked for sources.  The newest
# version that can be had: mirrors need not have all of what their lists name.
download_server()
{
	local major=$1 apt=$WORK/apt file version

	mkdir -p "$apt/etc" "$apt/lists/partial" "$apt/cache/archives/partial" "$apt/source"
	for file in /etc/apt/sources.list /etc/apt/sources.list.d/*.list \
		/etc/apt/sources.list.d/*.sources
	do
		[ ! -f "$file" ] || sed -E -e 's/^deb([[:space:]])/deb-src\1/' \
			-e 's/^Types:.*/Types: deb-src/' "$file" >"$apt/etc/${file##*/}"
	done
	cd "$apt/source"
	set -- -q -o Dir::Etc::sourcelist=/dev/null -o Dir::Etc::sourceparts="$apt/etc" \
		-o Dir::State::lists="$apt/lists" -o Dir::Cache="$apt/cache" \
		-o APT::Sandbox::User="$(id -un)" -o Acquire::Languages=none
	# A source of somebody else's that is broken is not our business.
	apt-get "$@" update || true
	apt-cache "$@" showsrc "postgresql-$major" | sed -n 's/^Version: //p' | sort -Vr \
		>"$apt/versions"
	while read -r version; do
		! apt-get "$@" --download-only source "postgresql-$major=$version" || break
	done <"$apt/versions"
	tar -xf postgresql-*.orig.tar.* && mv postgresql-*/ "$WORK/server-source"
}

# Where it is configured to be is where the private tree will have it, apart from
# what comes before "/usr": PostgreSQL finds its files relative to its programs.
# They find their own libpq in the same way.
build_server()
{
	local major=$1 kind=$2 prefix=/usr/lib/postgresql/$1 cflags="-g -fno-omit-frame-pointer"

	case $kind in
		asan) cflags+=" -O1 $SANITIZERS" ;;
		*) cflags+=" -Og -DUSE_VALGRIND" ;;
	esac
	cd "$WORK/server-source"
	# The programs that configure runs, and those that make does
	export ASAN_OPTIONS=detect_leaks=0
	[ "$kind" != asan ] || tell_ubsan
	# shellcheck disable=SC2016
	./configure -q --prefix="$prefix" --enable-cassert --enable-debug \
		--enable-tap-tests --disable-rpath --without-icu --without-readline \
		--with-ssl=openssl CC=gcc CFLAGS="$cflags" \
		LDFLAGS="-Wl,-rpath,'\$\$ORIGIN/../lib'" || return 1
	make -s -j "$(nproc)" && make -s -j "$(nproc)" -C contrib &&
		make -s DESTDIR="$WORK/server" install &&
		make -s -C contrib DESTDIR="$WORK/server" install &&
		cp src/tools/valgrind.supp "$WORK/server$prefix"
}

# UBSan looks for its options when it has something to report, and finds that the
# server shows its state where they were; getenv() finds what the server has saved.
# Since 16, PostgreSQL itself tells it.
tell_ubsan()
{
	grep -q __ubsan_default_options src/backend/main/main.c ||
		cat >>src/backend/main/main.c <<-'END'

			extern const char *__ubsan_default_options(void);

			const char *
			__ubsan_default_options(void)
			{
				const char *options = getenv("UBSAN_OPTIONS");

				return options ? options : "print_stacktrace=1:abort_on_error=1:halt_on_error=1";
			}
		END
}

provide_server()
{
	local major=$1 kind=$2

	SERVER_DIR=$(server_directory "$major" "$kind")
	[ ! -d "$SERVER_DIR" ] || return 0
	[ "$kind" != discard ] || kind=valgrind
	# shellcheck disable=SC2046
	install_missing $(packages_for_server)
	say "making a PostgreSQL $major for $kind in $SERVER_DIR (once; takes some minutes)"
	quietly "downloading the source of PostgreSQL" download_server "$major"
	quietly "making a PostgreSQL for $kind" build_server "$major" "$kind"
	as_root mkdir -p "$SERVERS"
	as_root cp -rP "$WORK/server/usr/lib/postgresql/$major" "$SERVER_DIR.partial.$$"
	as_root chmod -R a+rX "$SERVER_DIR.partial.$$"
	as_root mv -T "$SERVER_DIR.partial.$$" "$SERVER_DIR"
	rm -rf "$WORK/server" "$WORK/server-source" "$WORK/apt"
}

# For make_private_tree.
use_server()
{
	local major=$PGMAJOR kind=$SERVER_KIND usr=$WORK/root/usr

	provide_server "$major" "$kind"
	say "copying PostgreSQL $major, made for $kind, to a private directory"
	as_user mkdir -p "$usr/lib/postgresql" "$WORK/reports"
	as_user cp -rP "$SERVER_DIR" "$usr/lib/postgresql/$major"
	PGBIN=$usr/lib/postgresql/$major/bin
	PG_CONFIG=$PGBIN/pg_config
	export PGCTLTIMEOUT=$((60 * SERVER_SLOWNESS))
	export PG_TEST_TIMEOUT_DEFAULT=$((180 * SERVER_SLOWNESS))
	case $kind in
		asan) watch_by_sanitizers ;;
		valgrind) watch_by_valgrind ;;
		discard)
			echo "debug_discard_caches = 1" | as_user tee "$WORK/discard.conf" >/dev/null
			# PostgreSQL's Perl modules and server_create add that to postgresql.conf.
			export TEMP_CONFIG=$WORK/discard.conf
			;;
	esac
	[ "$(as_user "$PG_CONFIG" --bindir)" = "$PGBIN" ] ||
		die "the copy of PostgreSQL does not find its own files"
}

# Memory is not looked for at the end of a process, which leaves it to the kernel; and
# PostgreSQL measures its stack by the addresses of variables.
watch_by_sanitizers()
{
	local common=print_stacktrace=1:abort_on_error=1

	export UBSAN_OPTIONS=$common:halt_on_error=1:log_path=$WORK/reports/ubsan
	export ASAN_OPTIONS=$common:log_path=$WORK/reports/asan:detect_leaks=0
	ASAN_OPTIONS+=:detect_stack_use_after_return=0
	# Tests that watch the memory of a process take what is kept of it for a leak.
	ASAN_OPTIONS+=:quarantine_size_mb=1:malloc_context_size=8
	# A library that a test preloads comes before it.
	ASAN_OPTIONS+=:verify_asan_link_order=0
}

# In place of the server's program, but not while a data directory is made, nor
# when it is only asked something.
watch_by_valgrind()
{
	# The dynamic linker looks at the "$ORIGIN" of a library a word at a time.  The queue
	# of notifications has padding between them, which is written to disk; and for
	# valgrind it stays undefined after another process has put something there.
	as_user tee "$WORK/more.supp" >/dev/null <<-END
		{
		   linker
		   Memcheck:Addr8
		   ...
		   fun:_dl_map_object
		   fun:openaux
		}
		{
		   padding_notifications
		   Memcheck:Param
		   pwrite64(buf)
		   ...
		   fun:SlruPhysicalWritePage
		   ...
		   fun:asyncQueue*
		}
		{
		   notifications_of_others
		   Memcheck:Cond
		   ...
		   fun:asyncQueueProcessPageEntries
		}
	END
	as_user mv "$PGBIN/postgres" "$PGBIN/postgres.real"
	as_user tee "$PGBIN/postgres" >/dev/null <<-END
		#!/bin/sh
		case " \$* " in
			*" --boot "* | *" --single "* | *" --check "* | *" -C "* | *" -V "* | *" --version "*)
				exec "$PGBIN/postgres.real" "\$@" ;;
		esac
		exec valgrind --quiet --leak-check=no --num-callers=30 --error-limit=no \\
			--suppressions="$SERVER_DIR/valgrind.supp" --suppressions="$WORK/more.supp" \\
			--log-file="$WORK/reports/valgrind.%p" "$PGBIN/postgres.real" "\$@"
	END
	as_user chmod 755 "$PGBIN/postgres"
}

# Valgrind makes its file whether it has something to say or not; UBSan's reports may
# be in the logs of the servers.  Those on PostgreSQL itself that sqlsmith brings about,
# the scenario has looked at.
server_reports()
{
	local file found=0

	for file in "$WORK"/reports/*; do
		[ -s "$file" ] || continue
		found=1
		echo "${file#"$WORK"/}:"
		sed -n '1,80p' "$file"
	done
	for file in "$WORK"/*.log "$WORK"/src/tmp_check/log/*; do
		[ "${file##*/}" != sqlsmith_main.log ] || continue
		[ -f "$file" ] && grep -q ': runtime error: ' "$file" || continue
		found=1
		echo "${file#"$WORK"/}:"
		grep -A 20 ': runtime error: ' "$file" | sed -n '1,80p'
	done
	[ "$found" = 0 ]
}
