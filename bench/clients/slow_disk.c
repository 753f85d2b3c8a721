/*
 * slow_disk.c
 *		A disk whose fdatasync takes 1 ms longer, for LD_PRELOAD
 *
 * As a network disk, a disk without a cache that may be trusted, or a
 * synchronous standby would.  The pause comes after the flush itself, and is
 * slept, so that other processes can use the processor meanwhile.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <time.h>

int
fdatasync(int fd)
{
	static int	(*real_fdatasync) (int);
	struct timespec pause = {0, 1000000};
	int			result;

	if (real_fdatasync == NULL)
		real_fdatasync = (int (*) (int)) dlsym(RTLD_NEXT, "fdatasync");
	result = real_fdatasync(fd);
	nanosleep(&pause, NULL);
	return result;
}
