/*
 * client.h
 *		What the clients have in common: the clock, tokens, giving up
 */
#ifndef CLIENT_H
#define CLIENT_H

#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <time.h>

#define TOKEN_LENGTH 32

static inline double
seconds_now(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec + now.tv_nsec / 1e9;
}

static inline void
die(const char *format,...)
{
	va_list		args;

	va_start(args, format);
	vfprintf(stderr, format, args);
	va_end(args);
	fputc('\n', stderr);
	exit(1);
}

/* 128 random bits, of which 2048 are drawn at a time */
static inline void
make_token(char *token)
{
	static __thread unsigned char pool[256];
	static __thread size_t used = sizeof(pool);

	if (used == sizeof(pool))
	{
		if (getrandom(pool, sizeof(pool), 0) != sizeof(pool))
			die("no random numbers");
		used = 0;
	}
	for (int i = 0; i < 16; i++)
		sprintf(token + 2 * i, "%02x", pool[used++]);
}

#endif
