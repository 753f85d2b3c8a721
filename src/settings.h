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

extern void settings_define(void);

/* How many keys one transaction may have locked at a time. */
extern int	settings_max_keys(void);

#endif							/* DISTLOCK_SETTINGS_H */
