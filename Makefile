EXTENSION = distlock
EXTVERSION = 1.0

MODULE_big = distlock
DATA = $(sort $(wildcard sql/distlock--*.sql))
SOURCES = $(sort $(wildcard src/*.c))
HEADERS =

# The mirror in Redis needs hiredis; WITH_REDIS=no leaves it out.  With hiredis 1
# and its part for TLS (hiredis_ssl), it can be reached by TLS as well.
WITH_REDIS ?= yes
PKG_CONFIG ?= pkg-config
REDIS_SOURCES = $(filter-out src/mirror_marks.c src/mirror_settings.c \
	src/mirror_sql.c src/mirrors_none.c, $(wildcard src/mirror*.c)) \
	src/page_marks.c src/password_file.c src/redis.c src/redis_tls.c src/resolve.c
ifeq ($(WITH_REDIS),no)
OBJS = $(patsubst %.c,%.o,$(filter-out $(REDIS_SOURCES),$(SOURCES)))
else
OBJS = $(patsubst %.c,%.o,$(filter-out src/mirrors_none.c,$(SOURCES)))
ifneq ($(filter-out clean distclean dist installcheck indent indent-check,$(or $(MAKECMDGOALS),all)),)
ifeq ($(shell $(PKG_CONFIG) --exists hiredis && echo yes),)
$(error hiredis was not found: install libhiredis-dev and pkg-config, or run make WITH_REDIS=no)
endif
endif
REDIS_FLAGS = -DDISTLOCK_WITH_REDIS
REDIS_LIBS = $(shell $(PKG_CONFIG) --libs hiredis)
ifeq ($(shell $(PKG_CONFIG) --exists hiredis_ssl openssl && echo yes),yes)
REDIS_FLAGS += -DDISTLOCK_WITH_TLS
REDIS_LIBS = $(shell $(PKG_CONFIG) --libs hiredis_ssl hiredis openssl)
endif
endif
SHLIB_LINK = $(REDIS_LIBS)

# For tests: places in the code that can be made to fail (src/fail_point.c).
FAIL_POINTS ?= no
ifeq ($(FAIL_POINTS),yes)
FAIL_POINT_FLAGS = -DDISTLOCK_FAIL_POINTS
endif

# Only what PostgreSQL looks up is exported; up to version 15 it has no word
# for that itself.
PG_CPPFLAGS = -D'PGDLLEXPORT=__attribute__((visibility("default")))' \
	$(REDIS_FLAGS) $(FAIL_POINT_FLAGS)
PG_CFLAGS = -Wall -Wextra -Wno-unused-parameter -Wno-sign-compare \
	-Wno-missing-field-initializers -Wno-cast-function-type -fvisibility=hidden

# Tests, run by "make installcheck" against a server that is up and has
# distlock installed; tools/check needs neither.  The SQL of pg_regress is in
# test/sql, the schedules of the isolation tester in test/specs, the Perl in
# test/t; what the first two shall print is in expected/ for both, since that
# is where every version of PostgreSQL looks.
REGRESS = $(filter-out $(REGRESS_SKIP),$(sort $(patsubst test/sql/%.sql,%,$(wildcard test/sql/*.sql))))
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

# An archive for PGXN, of what is committed.  Its version, in META.json, is that of
# the extension with a number for releases in which no SQL changes.
DISTVERSION = $(shell sed -nE '1,/"version"/ s/.*"version": "(.*)".*/\1/p' META.json)
.PHONY: dist
dist:
	git archive --format=zip --prefix=distlock-$(DISTVERSION)/ \
		--output=distlock-$(DISTVERSION).zip HEAD

# Layout of the code, see tools/indent.
.PHONY: indent indent-check typedefs
indent:
	tools/indent

indent-check:
	tools/indent --check

typedefs: $(OBJS)
	tools/indent --typedefs $(OBJS)
