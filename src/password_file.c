/*-------------------------------------------------------------------------
 *
 * password_file.c
 *	  A file with a password.
 *
 * The rules are those of PostgreSQL for the private key of a certificate.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "storage/fd.h"

#include "password_file.h"

static bool check(int fd, const char *path, char *error, size_t size);

bool
password_file_read(const char *path, char *password, char *error, size_t size)
{
	/* A pipe or a device must not keep us waiting. */
	int			fd = OpenTransientFile(path, O_RDONLY | O_NONBLOCK | PG_BINARY);
	ssize_t		length;

	if (fd < 0)
	{
		snprintf(error, size, "could not open password file \"%s\": %m", path);
		return false;
	}
	if (!check(fd, path, error, size))
	{
		CloseTransientFile(fd);
		return false;
	}
	length = read(fd, password, PASSWORD_MAX + 1);
	if (length < 0)
		snprintf(error, size, "could not read password file \"%s\": %m", path);
	CloseTransientFile(fd);
	if (length < 0)
		return false;

	for (ssize_t i = 0; i < length; i++)
	{
		if (password[i] == '\n' || password[i] == '\r' || password[i] == '\0')
			length = i;
	}
	if (length == 0 || length > PASSWORD_MAX)
	{
		snprintf(error, size,
				 length == 0 ? "password file \"%s\" has no password in its first line" :
				 "the password in file \"%s\" is too long", path);
		return false;
	}
	password[length] = '\0';
	return true;
}

static bool
check(int fd, const char *path, char *error, size_t size)
{
	struct stat status;

	if (fstat(fd, &status) != 0)
		snprintf(error, size, "could not read password file \"%s\": %m", path);
	else if (!S_ISREG(status.st_mode))
		snprintf(error, size, "password file \"%s\" is not a regular file",
				 path);
	else if (status.st_uid != geteuid() && status.st_uid != 0)
		snprintf(error, size,
				 "password file \"%s\" must belong to the server's user or root",
				 path);
	else if ((status.st_uid == geteuid() &&
			  (status.st_mode & (S_IRWXG | S_IRWXO)) != 0) ||
			 (status.st_mode & (S_IWGRP | S_IXGRP | S_IRWXO)) != 0)
		snprintf(error, size,
				 "password file \"%s\" gives rights to others; its mode should be 0600",
				 path);
	else
		return true;
	return false;
}
