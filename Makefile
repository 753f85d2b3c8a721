EXTENSION = distlock
EXTVERSION = 1.0

MODULE_big = distlock
DATA = sql/distlock--1.0.sql
OBJS = $(patsubst %.c,%.o,$(sort $(wildcard src/*.c)))
HEADERS =

# Only what PostgreSQL looks up is exported; up to version 15 it has no word
# for that itself.
PG_CPPFLAGS = -D'PGDLLEXPORT=__attribute__((visibility("default")))'
PG_CFLAGS = -Wall -Wextra -Wno-unused-parameter -Wno-sign-compare \
	-Wno-missing-field-initializers -Wno-cast-function-type -fvisibility=hidden

# Tests, run by "make installcheck" against a server that is up and has
# distlock installed; tools/check needs neither.  The SQL of pg_regress is in
# test/sql, the schedules of the isolation tester in test/specs, the Perl in
# test/t; what the first two shall print is in expected/ for both, since that
# is where every version of PostgreSQL looks.
REGRESS = $(sort $(patsubst test/sql/%.sql,%,$(wildcard test/sql/*.sql)))
REGRESS_OPTS = --inputdir=test --load-extension=distlock
ISOLATION = $(sort $(patsubst test/specs/%.spec,%,$(wildcard test/specs/*.spec)))
ISOLATION_OPTS = --inputdir=test --outputdir=. --load-extension=distlock
TAP_TESTS = 1
PROVE_TESTS = $(sort $(wildcard test/t/*.pl))
EXTRA_CLEAN = output_iso tmp_check_iso results regression.diffs regression.out

PG_CONFIG ?= pg_config
PGXS := $(shell $(PG_CONFIG) --pgxs)
include $(PGXS)

# Objects are few and headers fewer: when one of these changes, compile all.
$(OBJS): $(wildcard src/*.h)

# Layout of the code, see tools/indent.
.PHONY: indent indent-check typedefs
indent:
	tools/indent

indent-check:
	tools/indent --check

typedefs: $(OBJS)
	tools/indent --typedefs $(OBJS)
