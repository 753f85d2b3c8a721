/*-------------------------------------------------------------------------
 *
 * resolve.c
 *	  Names of hosts to addresses, without waiting.
 *
 * The child has nothing to do with the server: it lets go of the shared memory, runs
 * no exit callbacks, and has the signals' own meaning back before they are let
 * in.  It is killed when its answer is not wanted any more, and ends by its alarm
 * should the worker be gone.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <fcntl.h>
#include <netdb.h>
#include <signal.h>
#ifdef __linux__
#include <sys/prctl.h>
#endif
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "libpq/pqsignal.h"
#include "storage/fd.h"
#include "storage/pg_shmem.h"

#include "compat.h"
#include "resolve.h"

static bool is_numeric(const char *host);
pg_noreturn static void be_child(const char *host, int fd, int timeout);
static void say(int fd, const char *line);
static void read_answer(Resolver *resolver);

bool
resolve_begin(Resolver *resolver, const char *host, int timeout)
{
	int			ends[2];
	sigset_t	all;
	sigset_t	former;
	pid_t		pid;

	memset(resolver, 0, sizeof(Resolver));
	resolver->fd = -1;
	if (is_numeric(host))
	{
		strlcpy(resolver->addresses[0], host, RESOLVED_SIZE);
		resolver->n = 1;
		return true;
	}

	if (!AcquireExternalFD())
	{
		strlcpy(resolver->error, "too many open files",
				sizeof(resolver->error));
		return true;
	}
	if (pipe2(ends, O_NONBLOCK | O_CLOEXEC) != 0)
	{
		ReleaseExternalFD();
		snprintf(resolver->error, sizeof(resolver->error),
				 "could not create a pipe: %m");
		return true;
	}

	sigfillset(&all);
	sigprocmask(SIG_SETMASK, &all, &former);
	pid = fork();
	if (pid == 0)
		be_child(host, ends[1], timeout);
	sigprocmask(SIG_SETMASK, &former, NULL);
	close(ends[1]);
	if (pid < 0)
	{
		snprintf(resolver->error, sizeof(resolver->error),
				 "could not start a process: %m");
		close(ends[0]);
		ReleaseExternalFD();
		return true;
	}
	resolver->pid = pid;
	resolver->fd = ends[0];
	return false;
}

bool
resolve_step(Resolver *resolver)
{
	while (resolver->fd >= 0)
	{
		int			room = sizeof(resolver->answer) - 1 - resolver->length;
		ssize_t		got = read(resolver->fd,
							   resolver->answer + resolver->length, room);

		if (got > 0)
		{
			resolver->length += got;
			continue;
		}
		if (got < 0 && (errno == EAGAIN || errno == EINTR))
			return false;
		read_answer(resolver);
		resolve_end(resolver);
	}
	return true;
}

void
resolve_end(Resolver *resolver)
{
	if (resolver->fd >= 0)
	{
		close(resolver->fd);
		ReleaseExternalFD();
	}
	resolver->fd = -1;
	if (resolver->pid > 0)
	{
		/* It has nothing to clean up, and dies at once. */
		kill(resolver->pid, SIGKILL);
		while (waitpid(resolver->pid, NULL, 0) < 0 && errno == EINTR)
			;
	}
	resolver->pid = 0;
}

static bool
is_numeric(const char *host)
{
	struct addrinfo hints = {0};
	struct addrinfo *found;

	hints.ai_socktype = SOCK_STREAM;
	hints.ai_flags = AI_NUMERICHOST;
	if (strlen(host) >= RESOLVED_SIZE ||
		getaddrinfo(host, NULL, &hints, &found) != 0)
		return false;
	freeaddrinfo(found);
	return true;
}

/*
 * Each line of the answer is an address, or after a "!" the reason why there is
 * none.
 */
static void
be_child(const char *host, int fd, int timeout)
{
	struct addrinfo hints = {0};
	struct addrinfo *found;
	struct addrinfo *next;
	sigset_t	none;
	int			result;

	for (int i = 1; i < NSIG; i++)
	{
		if (i != SIGKILL && i != SIGSTOP)
			signal(i, SIG_DFL);
	}
#ifdef __linux__
	prctl(PR_SET_PDEATHSIG, SIGKILL);
#endif
	/* A server that crashes cannot start again while it has that. */
	PGSharedMemoryDetach();
	alarm(timeout);
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);

	hints.ai_socktype = SOCK_STREAM;
	result = getaddrinfo(host, NULL, &hints, &found);
	if (result != 0)
	{
		say(fd, "!");
		say(fd, gai_strerror(result));
		say(fd, "\n");
		_exit(0);
	}
	for (next = found; next != NULL; next = next->ai_next)
	{
		char		address[RESOLVED_SIZE];

		if (getnameinfo(next->ai_addr, next->ai_addrlen, address,
						sizeof(address), NULL, 0, NI_NUMERICHOST) != 0)
			continue;
		say(fd, address);
		say(fd, "\n");
	}
	freeaddrinfo(found);
	_exit(0);
}

/*
 * A pipe has room for all that there is to say.
 */
static void
say(int fd, const char *line)
{
	if (write(fd, line, strlen(line)) < 0)
		_exit(1);
}

static void
read_answer(Resolver *resolver)
{
	char	   *line = resolver->answer;

	resolver->answer[resolver->length] = '\0';
	while (resolver->n < MAX_RESOLVED)
	{
		char	   *end = strchr(line, '\n');

		if (end == NULL)
			break;
		*end = '\0';
		if (line[0] == '!')
			strlcpy(resolver->error, line + 1, sizeof(resolver->error));
		else
			strlcpy(resolver->addresses[resolver->n++], line, RESOLVED_SIZE);
		line = end + 1;
	}
	if (resolver->n == 0 && resolver->error[0] == '\0')
		strlcpy(resolver->error, "no answer", sizeof(resolver->error));
}
