#!/bin/bash
# Pay interest, branch by branch, under a lock: psql in a shell script, for cron.
set -um
ttl=${1:-30} wait=${2:-600} token=

# sql COMMAND [SECONDS]: in one transaction, and not on a command line, which
# everybody can see.  As a setting, the token stays out of the server's log when
# the command fails.
sql() {
	timeout --foreground "${2:-0}" psql -XAtq1 -v ON_ERROR_STOP=1 -v VERBOSITY=verbose -f - \
		<<<"SET LOCAL lock.token = '$token'; $1"
}

# Extend the lease again and again; return when it is lost.
keep() {
	local began=$SECONDS deadline=$((SECONDS + ttl - 1)) pause left
	while ((began < deadline)) && kill -0 $$; do
		pause=$((1 + ttl / 12))
		case $(sql "SELECT distlock.try_extend('interest', current_setting('lock.token'))
				IS NOT NULL" $((deadline - began))) in
			t) deadline=$((began + ttl - 1)) pause=$((ttl / 3)) ;;
			f) return ;;
		esac # no answer: try again, as long as the lease lasts
		left=$((deadline - SECONDS))
		sleep $((left < 0 ? 0 : left < pause ? left : pause))
		began=$SECONDS
	done
}

pay() {
	local paid
	while paid=$(sql "SELECT pay_interest(branch, rate,
			distlock.guard('interest', current_setting('lock.token'))) FROM next_branch()" 2>&1); do
		[ -n "$paid" ] || exit 0
		echo "$paid"
	done
	[[ $paid != *"ERROR:  LK001"* ]] || exit 75
	echo "$paid" >&2
	exit 1
}

token=$(sql "SELECT distlock.try_acquire('interest', ttl => '$ttl s', wait => '$wait s')") || exit 1
[ -n "$token" ] || { echo "refused: somebody else is at it" >&2; exit 1; }
keep 2>/dev/null & keeper=$!
pay & work=$!
# Neither goes on without us; psql cancels its statement when it is interrupted.
trap '{ kill -- -$keeper; kill -INT -- -$work; } 2>/dev/null' EXIT
trap 'exit 1' INT TERM
wait -n -p ended $keeper $work
status=$?
if [ "$ended" = $keeper ] || [ $status = 75 ]; then
	echo "lost: the lock is not ours any more" >&2
	exit 1
fi
# Should this fail, the ttl ends the lease.
sql "SELECT distlock.try_release('interest', current_setting('lock.token'))" >/dev/null
[ $status = 0 ] && echo "done"
