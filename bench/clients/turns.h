/*
 * turns.h
 *		The main part of a client that does the same thing again and again
 *
 * Each client is a thread with a connection, which stays.  A line on the standard
 * input has the seconds for which all of them are to work; printed is how many
 * turns they did a second, all together, and how many of them were granted what
 * they wanted.  So what happens at the beginning of a connection is not measured,
 * and several such programs can take turns within milliseconds.
 *
 * One client alone shares a processor with the process that serves it, another one
 * at each line.  They never run at the same time, and to wake up a processor that
 * sleeps can take longer, in a virtual machine, than all that is to be measured.
 */
#ifndef TURNS_H
#define TURNS_H

#define _GNU_SOURCE				/* for processor sets */
#include <pthread.h>
#include <sched.h>
#include <sys/socket.h>
#include <unistd.h>

#include "client.h"

/*
 * Of each program: connect, do one turn (true if granted), and tell the process
 * that serves a connection, or 0.
 */
static void *connect_client(int number);
static int	take_turn(void *connection);
static pid_t served_by(void *connection);

typedef struct Turns
{
	pthread_t	thread;
	int			number;
	void	   *connection;
	long		turns;
	long		granted;
	double		took;
} Turns;

static pthread_barrier_t turns_begin;
static pthread_barrier_t turns_end;
static double turns_seconds;

static void *
run_turns(void *arg)
{
	Turns	   *turns = arg;

	turns->connection = connect_client(turns->number);
	pthread_barrier_wait(&turns_end);
	for (;;)
	{
		double		began;

		pthread_barrier_wait(&turns_begin);
		turns->turns = turns->granted = 0;
		began = seconds_now();
		do
		{
			turns->granted += take_turn(turns->connection);
			turns->turns++;
			turns->took = seconds_now() - began;
		} while (turns->took < turns_seconds);
		pthread_barrier_wait(&turns_end);
	}
	return NULL;
}

/* The process at the other end of a Unix socket. */
static inline pid_t
peer_of(int fd)
{
	struct ucred peer;
	socklen_t	length = sizeof(peer);

	if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &length) != 0)
		die("who is at the other end?");
	return peer.pid;
}

static void
run_on(Turns *turns, const cpu_set_t *processors)
{
	pid_t		server = served_by(turns->connection);

	if (pthread_setaffinity_np(turns->thread, sizeof(*processors), processors) != 0 ||
		(server != 0 && sched_setaffinity(server, sizeof(*processors), processors) != 0))
		die("cannot choose a processor");
}

/* The n-th of those, and the first again after the last. */
static cpu_set_t
one_of(const cpu_set_t *processors, int n)
{
	cpu_set_t	one;

	n %= CPU_COUNT(processors);
	CPU_ZERO(&one);
	for (int i = 0; i < CPU_SETSIZE; i++)
	{
		if (CPU_ISSET(i, processors) && n-- == 0)
			CPU_SET(i, &one);
	}
	return one;
}

static void
serve_turns(int n)
{
	Turns		turns[n];
	char		line[64];
	cpu_set_t	processors;

	pthread_barrier_init(&turns_begin, NULL, n + 1);
	pthread_barrier_init(&turns_end, NULL, n + 1);
	for (int i = 0; i < n; i++)
	{
		turns[i].number = i;
		if (pthread_create(&turns[i].thread, NULL, run_turns, &turns[i]) != 0)
			die("cannot start a thread");
	}
	pthread_barrier_wait(&turns_end);
	sched_getaffinity(0, sizeof(processors), &processors);
	for (int lines = 0; fgets(line, sizeof(line), stdin) != NULL; lines++)
	{
		double		rate = 0;
		double		granted = 0;

		if (n == 1)
		{
			cpu_set_t	one = one_of(&processors, lines);

			run_on(turns, &one);
		}
		turns_seconds = atof(line);
		pthread_barrier_wait(&turns_begin);
		pthread_barrier_wait(&turns_end);
		for (int i = 0; i < n; i++)
		{
			rate += turns[i].turns / turns[i].took;
			granted += turns[i].granted / turns[i].took;
		}
		printf("%.3f %.3f\n", rate, granted);
		fflush(stdout);
	}
	if (n == 1)
		run_on(turns, &processors);
}

#endif
