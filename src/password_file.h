/*-------------------------------------------------------------------------
 *
 * password_file.h
 *	  A file with a password.
 *
 *-------------------------------------------------------------------------
 */
#ifndef DISTLOCK_PASSWORD_FILE_H
#define DISTLOCK_PASSWORD_FILE_H

/* The longest password, in bytes. */
#define PASSWORD_MAX 512

/*
 * Read the first line of the file, relative to the data directory, into
 * password[PASSWORD_MAX + 1].  It has to be a plain file that belongs to the
 * user of the server and gives no rights to others; or to root, which may let
 * a group read it.  False with the reason in error[size].
 */
extern bool password_file_read(const char *path, char *password, char *error,
							   size_t size);

#endif							/* DISTLOCK_PASSWORD_FILE_H */
