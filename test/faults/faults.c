/*
 * faults.c
 *		Calls of the system's and of libraries that fail on demand.
 *
 * Preloaded (LD_PRELOAD) into a server by a test; see DistlockPreload.pm.  A
 * call fails in a process, and in its children, while there is a file in the
 * directory DISTLOCK_FAULTS by the name of the function, that has the process
 * id and the error number.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

/* Nothing that is called here is one of ours. */
static bool
fails(const char *name)
{
	const char *directory = getenv("DISTLOCK_FAULTS");
	char		path[1024];
	char		text[64];
	char	   *end;
	long		pid;
	long		length;
	int			saved = errno;
	int			fd;

	if (directory == NULL)
		return false;
	snprintf(path, sizeof(path), "%s/%s", directory, name);
	fd = syscall(SYS_openat, AT_FDCWD, path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
	{
		errno = saved;
		return false;
	}
	length = syscall(SYS_read, fd, text, sizeof(text) - 1);
	close(fd);
	errno = saved;
	if (length <= 0)
		return false;
	text[length] = '\0';
	pid = strtol(text, &end, 10);
	if (pid != getpid() && pid != getppid())
		return false;
	errno = (int) strtol(end, NULL, 10);
	return true;
}

/* The function that would have been called. */
#define NEXT(name) ((__typeof__(&name)) dlsym(RTLD_NEXT, #name))

int
pipe2(int ends[2], int flags)
{
	return fails("pipe2") ? -1 : NEXT(pipe2)(ends, flags);
}

pid_t
fork(void)
{
	return fails("fork") ? -1 : NEXT(fork)();
}

int
getsockopt(int fd, int level, int name, void *value, socklen_t *length)
{
	return fails("getsockopt") ? -1 : NEXT(getsockopt)(fd, level, name, value, length);
}

int
getnameinfo(const struct sockaddr *address, socklen_t length, char *host,
			socklen_t host_length, char *service, socklen_t service_length, int flags)
{
	return fails("getnameinfo") ? EAI_FAIL :
		NEXT(getnameinfo)(address, length, host, host_length, service, service_length, flags);
}

/* Not all that a process reads and writes is concerned. */
static bool
is_called(int fd, const char *name)
{
	char		link[64];
	char		path[1024];
	ssize_t		length;

	snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
	length = readlink(link, path, sizeof(path) - 1);
	if (length < 0)
		return false;
	path[length] = '\0';
	return strstr(path, name) != NULL;
}

ssize_t
read(int fd, void *buffer, size_t size)
{
	return fails("read") && is_called(fd, "fault") ? -1 : NEXT(read)(fd, buffer, size);
}

ssize_t
write(int fd, const void *buffer, size_t size)
{
	return fails("write") && is_called(fd, "pipe:") ? -1 : NEXT(write)(fd, buffer, size);
}

/* It fails, or with the error EPERM tells of another owner. */
int
fstat(int fd, struct stat *status)
{
	bool		failing = fails("fstat") && is_called(fd, "fault");
	int			error = errno;
	int			result = NEXT(fstat)(fd, status);

	if (!failing)
		return result;
	if (error == EPERM)
	{
		status->st_uid = geteuid() + 1;
		return result;
	}
	errno = error;
	return -1;
}

/* Of hiredis, which asks for memory. */
struct redisContext;
struct redisContext *redisConnectNonBlock(const char *host, int port);
int			redisAppendFormattedCommand(struct redisContext *context, const char *command, size_t length);

struct redisContext *
redisConnectNonBlock(const char *host, int port)
{
	return fails("redisConnectNonBlock") ? NULL : NEXT(redisConnectNonBlock)(host, port);
}

int
redisAppendFormattedCommand(struct redisContext *context, const char *command, size_t length)
{
	return fails("redisAppendFormattedCommand") ? -1 :
		NEXT(redisAppendFormattedCommand)(context, command, length);
}

/* Of OpenSSL. */
int			RAND_bytes(unsigned char *buffer, int length);

int
RAND_bytes(unsigned char *buffer, int length)
{
	return fails("RAND_bytes") ? 0 : NEXT(RAND_bytes)(buffer, length);
}
