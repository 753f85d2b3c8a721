/*
 * turns.h
 *		The main part of a client that does the same thing again and again
 *
 * Each client is a thread with a connection, which stays.  A line on the standard
 * input has the seconds for which all of them are to work; printed is how many
 * turns they did a second, all together, and how many of them were granted what
 * they wanted.  So what happens at the beginning of a connection is not measured,
 * and several such programs can take turns within milliseconds.
 */
#ifndef TURNS_H
#define TURNS_H

#include <pthread.h>

#include "client.h"

/* Of each program: connect, and do one turn; true if granted. */
static void *connect_client(int number);
static int	take_turn(void *connection);

typedef struct Turns
{
	pthread_t	thread;
	int			number;
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
	void	   *connection = connect_client(turns->number);

	for (;;)
	{
		double		began;

		pthread_barrier_wait(&turns_begin);
		turns->turns = turns->granted = 0;
		began = seconds_now();
		do
		{
			turns->granted += take_turn(connection);
			turns->turns++;
			turns->took = seconds_now() - began;
		} while (turns->took < turns_seconds);
		pthread_barrier_wait(&turns_end);
	}
	return NULL;
}

static void
serve_turns(int n)
{
	Turns		turns[n];
	char		line[64];

	pthread_barrier_init(&turns_begin, NULL, n + 1);
	pthread_barrier_init(&turns_end, NULL, n + 1);
	for (int i = 0; i < n; i++)
	{
		turns[i].number = i;
		if (pthread_create(&turns[i].thread, NULL, run_turns, &turns[i]) != 0)
			die("cannot start a thread");
	}
	while (fgets(line, sizeof(line), stdin) != NULL)
	{
		double		rate = 0;
		double		granted = 0;

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
}

#endif
