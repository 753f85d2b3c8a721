/*-------------------------------------------------------------------------
 *
 * settings.h
 *	  The settings of distlock.
 *
 *-------------------------------------------------------------------------
 */
#ifndef DISTLOCK_SETTINGS_H
#define DISTLOCK_SETTINGS_H

/* distlock.durable: flush grants whatever synchronous_commit says. */
extern bool setting_durable;

/* distlock.events: a bit (1 << EventKind) for each that is announced. */
extern int	setting_events;

/* distlock.expiry_warning: so long before the end, in milliseconds; 0: never. */
extern int	setting_expiry_warning;

/* distlock.max_databases: slots of shared memory. */
extern int	setting_max_databases;

/* distlock.naptime: a launcher looks at the databases so often, in seconds. */
extern int	setting_naptime;

/* distlock.purge_after: free rows are kept so long, in milliseconds. */
extern int	setting_purge_after;

/* distlock.session_scope: locks of scope "session" may be asked for. */
extern bool setting_session_scope;

/* distlock.track: keep statistics. */
extern bool setting_track;

/* distlock.worker: have a worker in each database with the extension. */
extern bool setting_worker;

extern void settings_define(void);

/* How many keys one transaction may have locked at a time. */
extern int	settings_max_keys(void);

#endif							/* DISTLOCK_SETTINGS_H */
