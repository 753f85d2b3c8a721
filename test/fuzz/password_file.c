/*-------------------------------------------------------------------------
 *
 * password_file.c
 *	  Fuzzes what is in a password file, and what kind of file it is.
 *
 * sources: password_file.c
 * lines: 80
 *
 * The password is the first line, up to its end or a zero byte; nothing of it is
 * in a message.
 *
 *-------------------------------------------------------------------------
 */
#include "fuzz.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "storage/fd.h"

#include "password_file.h"

static int	files_open = 0;

int
OpenTransientFile(const char *path, int flags)
{
	int			fd = open(path, flags);

	if (fd >= 0)
		files_open++;
	return fd;
}

int
CloseTransientFile(int fd)
{
	files_open--;
	return close(fd);
}

void
fuzz_one(FuzzInput *input)
{
	static char path[64];
	mode_t		mode = fuzz_byte(input) < 128 ? 0600 : fuzz_number(input) & 0777;
	bool		private = (mode & 077) == 0;
	int			filled = fuzz_byte(input);
	size_t		length = input->length;
	char	   *content = fuzz_bytes(input, &length);
	char	   *password = palloc(PASSWORD_MAX + 1);
	char	   *reason = palloc(256);
	size_t		line = 0;
	int			fd;
	bool		read;

	if (filled >= 128)
	{
		/* A line with a length at the limit, and then that. */
		int			n = PASSWORD_MAX - 2 + filled % 5;
		char	   *longer = memset(palloc(n + length), 'x', n + length);

		memcpy(longer + n, content, length);
		content = longer;
		length += n;
	}
	if (path[0] == '\0')
		snprintf(path, sizeof(path), "fuzz-password-%d", (int) getpid());
	unlink(path);
	fd = open(path, O_CREAT | O_WRONLY | O_TRUNC, 0600);
	fuzz_check(fd >= 0 && write(fd, content, length) == length);
	fuzz_check(fchmod(fd, mode) == 0);
	close(fd);
	while (line < length && content[line] != '\n' && content[line] != '\r' &&
		   content[line] != '\0')
		line++;

	read = password_file_read(path, password, reason, 256);
	fuzz_check(files_open == 0);
	if (read)
	{
		fuzz_check(private && line >= 1 && line <= PASSWORD_MAX);
		fuzz_check(strlen(password) == line);
		fuzz_check(memcmp(password, content, line) == 0);
	}
	else
	{
		/* Root may read what its mode does not allow. */
		fuzz_check(!private || line == 0 || line > PASSWORD_MAX ||
				   (mode & 0400) == 0);
		fuzz_check(strstr(reason, path) != NULL);
		content = memcpy(palloc0(length + 1), content, length);
		content[Min(line, 12)] = '\0';
		/* By chance it may be what the message says anyway. */
		if (line >= 12 && strstr(reason, content) != NULL)
			fuzz_check(strstr("could not open read the password in file \"\" "
							  "has no in its first line is too long "
							  "gives rights to others; its mode should be 0600",
							  content) != NULL ||
					   strstr(path, content) != NULL);
	}

	/* Nothing of this can be read. */
	fuzz_check(!password_file_read("/dev/null", password, reason, 256));
	fuzz_check(!password_file_read(".", password, reason, 256));
	fuzz_check(!password_file_read("/nowhere/at/all", password, reason, 256));
	fuzz_check(files_open == 0);
	unlink(path);
}
