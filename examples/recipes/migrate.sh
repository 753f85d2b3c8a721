#!/bin/bash
#
# migrate.sh DIR - bring the schema up to date; of many instances, one does it
#
# When: every instance of a program calls this when it starts.
#
# Promises: each DIR/*.sql is applied once, in the order of their names, in one
# transaction with its entry in schema_migration.  One instance at a time does
# that; the others wait, and then see that it is done.  Exit status 0 means that the
# schema is up to date.  Of a file that fails nothing is left; this instance ends
# with an error, and the next one tries that file again.  Who dies leaves no lock.
#
# The files must not contain BEGIN, COMMIT, or what cannot run in a transaction.
# PGHOST and so on say where: directly, since the lock is of scope "session".

set -euo pipefail
dir=${1:?usage: migrate.sh DIR}

script()
{
	local file name

	cat <<-'SQL'
		\set ON_ERROR_STOP on
		SELECT distlock.acquire('schema', ttl => '10 min', wait => '1 h',
			scope => 'session', owner => :'owner') AS token \gset
		CREATE TABLE IF NOT EXISTS schema_migration (
			name text PRIMARY KEY, fence bigint NOT NULL, applied_at timestamptz DEFAULT now());
	SQL
	for file in "$dir"/*.sql; do
		name=$(basename "$file")
		[[ $name =~ ^[A-Za-z0-9._-]+$ ]] || { echo "unfit name: $name" >&2; exit 1; }
		cat <<-SQL
			SELECT NOT EXISTS (SELECT FROM schema_migration WHERE name = '$name') AS missing \gset
			\if :missing
			BEGIN;
			INSERT INTO schema_migration VALUES ('$name', distlock.guard('schema', :'token'));
			\i '$file'
			COMMIT;
			\endif
		SQL
	done
	echo "SELECT distlock.release('schema', :'token');"
}

commands=$(script)
PGOPTIONS="${PGOPTIONS:-} -c client_min_messages=warning" \
	psql -XAtq -v owner="${HOSTNAME:-?} $$" -f - -o /dev/null <<<"$commands"
