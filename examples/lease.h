/* lease.h - a lock that a thread keeps, for libpq: to be copied along with lease.c */
#include <libpq-fe.h>
#include <stdbool.h>

typedef struct Lease
{
	PGconn *work;				/* what runs there when the lock is lost is cancelled */
	PGconn *heart;				/* the thread's own */
	const char *lock[2];		/* key and token: $1 and $2 of statements */
	double ttl;					/* in seconds */
	_Atomic double deadline;	/* by lease_now(), the lease may be over after that */
} Lease;

/*
 * Wait for the lock, with key and connections set: the result of acquire, and if that is a
 * row, the lock is held and kept from then on, until the program ends.
 */
extern PGresult *lease_acquire(Lease *lease, const char *ttl, const char *wait);

/*
 * Run a statement with key and token: its result, or NULL when the lock is lost.
 */
extern PGresult *lease_run(Lease *lease, const char *sql);

/* Did a statement end with this error? */
extern bool failed_with(const PGresult *res, const char *sqlstate);

/* Seconds, by a clock that nobody sets. */
extern double lease_now(void);
