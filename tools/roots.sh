# tools/roots.sh - root directories of other Debians, made from nothing
#
# Sourced by bash after lib.sh, never run.  They are kept in $ROOTS.
#
#	make_root ROOT SUITES PACKAGE...	a Debian with these packages; of each, the newest
#										version that one of the suites has
#	in_root ROOT SECONDS CMD...			a command inside of it, with a time limit;
#										$WORK/tmp is its /tmp

ROOTS=${XDG_CACHE_HOME:-/var/cache}/distlock

# This machine's own mirrors, if it is a Debian.
own_mirrors()
{
	apt-get indextargets --format '$(ORIGIN) $(REPO_URI)' 'Created-By: Packages' 2>/dev/null |
		awk '$1 == "Debian" && !seen[$2]++ { print $2 }'
}

# The Debian mirror that was given, or else this machine's own.
debian_mirror()
{
	local mirror=${DISTLOCK_DEBIAN_MIRROR:-}

	[ -n "$mirror" ] || mirror=$(own_mirrors | sed -n '/security/! { p; q }')
	[ -n "$mirror" ] && echo "$mirror"
}

# The lines for apt of a suite; what is stable has security updates, where this machine
# knows a mirror for them.
suite_sources()
{
	local suite=$1 mirror=$2 security

	echo "deb $mirror $suite main"
	security=$(own_mirrors | sed -n '/security/ { p; q }')
	case $suite in
		bookworm | trixie) [ -z "$security" ] || echo "deb $security $suite-security main" ;;
	esac
}

# The package lists may be older than they like to be; they are signed all the
# same.
make_root()
{
	local root=$1 suites=$2 suite packages mirror proxy partial sources=()
	shift 2

	packages="$*"
	as_root unshare --mount true ||
		die "a root directory cannot be entered here (no mount namespaces)"
	install_missing mmdebstrap debian-archive-keyring
	mirror=$(debian_mirror) ||
		die "this is not a Debian: set DISTLOCK_DEBIAN_MIRROR to the address of a mirror of Debian"
	proxy=$(apt-config dump Acquire::http::Proxy 2>/dev/null || true)
	partial=$root.partial.$$
	on_exit as_root rm -rf --one-file-system "$partial"
	as_root mkdir -p "${root%/*}"
	for suite in $suites; do
		mapfile -t -O "${#sources[@]}" sources < <(suite_sources "$suite" "$mirror")
	done
	suite=${suites%% *}
	say "making a Debian $suite in $root (once; takes some minutes)"
	quietly "making a Debian $suite" as_root unshare --mount mmdebstrap \
		--mode=root --variant=apt --components=main \
		--keyring=/usr/share/keyrings/debian-archive-keyring.gpg \
		--include="${packages// /,}" \
		--essential-hook='mkdir -p "$1/usr/share/man/man1"' \
		--aptopt='Acquire::Check-Valid-Until "false"' \
		--aptopt='Acquire::Languages "none"' \
		--aptopt='APT::Install-Recommends "false"' \
		${proxy:+--aptopt="$proxy"} \
		--dpkgopt='path-exclude=/usr/share/man/*' \
		--dpkgopt='path-exclude=/usr/share/doc/*' \
		"$suite" "$partial" "${sources[@]}"
	as_root mv -T "$partial" "$root"
}

# In namespaces for mounts and processes: what is mounted or started there goes
# when we go.
in_root()
{
	local root=$1 limit=$2
	shift 2

	chmod 1777 "$WORK/tmp"
	run_job "$limit" as_root unshare --mount --propagation private \
		--pid --fork --kill-child \
		bash -euc '
			root=$1 tmp=$2
			shift 2
			mount -t proc proc "$root/proc"
			mount --rbind /dev "$root/dev"
			mount -t tmpfs -o mode=1777 tmpfs "$root/dev/shm"
			mount --bind "$tmp" "$root/tmp"
			exec chroot "$root" env -i HOME=/root TERM="${TERM:-dumb}" \
				PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin \
				"$@"
		' in-root "$root" "$WORK/tmp" "$@"
}
