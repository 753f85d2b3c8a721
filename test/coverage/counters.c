/*
 * counters.c
 *		The counters of gcov in a file that all processes share.
 *
 * Linked into distlock.so by tools/coverage, and only there.  As gcc has it,
 * each process writes its counters to disk when it exits.  Ours are killed, by
 * tests and by "immediate" shutdowns, and would take what they counted with
 * them.  So when the library is loaded, the memory of the counters is replaced
 * by a mapping of a file, before any of our code has run.  A count is in the
 * file as soon as it is made, whatever becomes of the process, and the kernel
 * adds up nothing: the counters are incremented atomically
 * (-fprofile-update=atomic), by all processes in the same place.
 *
 * counters.ld sees to it that the counters, and nothing else, are on pages of
 * their own.  With -fprofile-info-section, gcc registers and writes nothing by
 * itself; that is done here for the process that is started for it, with
 * DISTLOCK_COVERAGE_WRITE in its environment.
 */
#include <fcntl.h>
#include <gcov.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define HIDDEN __attribute__((visibility("hidden")))

/* of counters.ld */
extern char distlock_counters_begin[] HIDDEN;
extern char distlock_counters_end[] HIDDEN;

/* What gcc knows of each source file; the linker makes a section's ends. */
extern const struct gcov_info *const __start_gcov_info[] HIDDEN;
extern const struct gcov_info *const __stop_gcov_info[] HIDDEN;

static FILE *output;

static void
give_up(const char *what)
{
	perror(what);
	abort();
}

static void
open_output(const char *name, void *arg)
{
	output = fopen(name, "w");
	if (output == NULL)
		give_up(name);
}

static void
write_output(const void *data, unsigned length, void *arg)
{
	if (fwrite(data, 1, length, output) != length)
		give_up("writing counters");
}

static void *
get_memory(unsigned length, void *arg)
{
	return malloc(length);
}

static void
write_all(void)
{
	const struct gcov_info *const *info;

	for (info = __start_gcov_info; info < __stop_gcov_info; info++)
	{
		__gcov_info_to_gcda(*info, open_output, write_output, get_memory,
							NULL);
		if (fclose(output) != 0)
			give_up("writing counters");
	}
}

/* Before other constructors, for these are counted too. */
__attribute__((constructor(101)))
static void
share_counters(void)
{
	size_t		size = distlock_counters_end - distlock_counters_begin;
	int			fd = open(DISTLOCK_COVERAGE_FILE, O_RDWR | O_CREAT, 0600);

	if (fd < 0 || ftruncate(fd, size) != 0)
		give_up(DISTLOCK_COVERAGE_FILE);
	if (mmap(distlock_counters_begin, size, PROT_READ | PROT_WRITE,
			 MAP_SHARED | MAP_FIXED, fd, 0) == MAP_FAILED)
		give_up("mapping the counters");
	close(fd);

	if (getenv("DISTLOCK_COVERAGE_WRITE") != NULL)
		write_all();
}
