/*-------------------------------------------------------------------------
 *
 * resolve.c
 *	  Fuzzes what comes through the pipe from the child that looks up a name.
 *
 * sources: resolve.c
 * lines: 45
 *
 * It comes in pieces of any length.  Starting the child, and what it does, is not
 * reached from here.
 *
 *-------------------------------------------------------------------------
 */
#include "fuzz.h"

#include <fcntl.h>
#include <unistd.h>

#include "storage/fd.h"

#include "resolve.h"

static int	external = 0;

bool
AcquireExternalFD(void)
{
	external++;
	return true;
}

void
ReleaseExternalFD(void)
{
	external--;
}

static void
check_address(const char *address)
{
	fuzz_check(memchr(address, '\0', RESOLVED_SIZE) != NULL);
	fuzz_check(strchr(address, '\n') == NULL);
}

void
fuzz_one(FuzzInput *input)
{
	Resolver   *resolver = palloc0(sizeof(Resolver));
	int			ends[2];
	bool		done;

	/* A host that needs no child is its own address. */
	if (fuzz_up_to(input, 31) == 31)
	{
		char	   *host = fuzz_string(input);

		host = psprintf("[%s]", host);	/* never numeric, and too long */
		fuzz_check(resolve_begin(resolver, "127.0.0.1", 1));
		fuzz_check(resolver->n == 1 && resolver->fd == -1 && external == 0);
		fuzz_check(strcmp(resolver->addresses[0], "127.0.0.1") == 0);
		fuzz_check(resolve_begin(resolver, "fe80::1%1", 1) ||
				   host[0] == '[');
		resolve_end(resolver);
		external = 0;
		return;
	}

	fuzz_check(pipe2(ends, O_NONBLOCK) == 0);
	external = 1;
	resolver->fd = ends[0];
	while (input->length > 0)
	{
		size_t		length = 1 + fuzz_up_to(input, 700);
		char	   *piece;

		if (fuzz_up_to(input, 15) == 15)
			piece = memset(palloc(length), fuzz_byte(input), length);
		else
			piece = fuzz_bytes(input, &length);
		if (length > 0 && resolver->fd >= 0)
			(void) !write(ends[1], piece, length);
		done = resolve_step(resolver);
		fuzz_check(done == (resolver->fd < 0));
		if (done)
			break;
	}
	close(ends[1]);
	fuzz_check(resolve_step(resolver));
	fuzz_check(resolver->fd == -1 && external == 0);

	fuzz_check(resolver->n >= 0 && resolver->n <= MAX_RESOLVED);
	for (int i = 0; i < resolver->n; i++)
		check_address(resolver->addresses[i]);
	fuzz_check(memchr(resolver->error, '\0', sizeof(resolver->error)) != NULL);
	fuzz_check(resolver->n > 0 || resolver->error[0] != '\0');
	resolve_end(resolver);
}
