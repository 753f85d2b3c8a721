/*-------------------------------------------------------------------------
 *
 * errors.c
 *	  Errors, as they are raised and caught.
 *
 * Every error has to have an errcode of its own: an internal one is what cannot
 * happen.
 *
 *-------------------------------------------------------------------------
 */
#include "fuzz.h"

#include "miscadmin.h"

sigjmp_buf *PG_exception_stack = NULL;
ErrorContextCallback *error_context_stack = NULL;
volatile sig_atomic_t InterruptPending = false;
FuzzError	fuzz_error;

static int	elevel_now;

bool
errstart(int elevel, const char *domain)
{
	elevel_now = elevel;
	memset(&fuzz_error, 0, sizeof(fuzz_error));
	return true;
}

bool
errstart_cold(int elevel, const char *domain)
{
	return errstart(elevel, domain);
}

/*
 * An internal error is one that cannot happen.
 */
void
errfinish(const char *filename, int lineno, const char *funcname)
{
	fuzz_check(fuzz_error.message[0] != '\0');
	if (elevel_now < ERROR)
		return;
	fuzz_check(elevel_now == ERROR);
	fuzz_check(fuzz_error.code != 0);
	fuzz_check(fuzz_error.code != ERRCODE_INTERNAL_ERROR);
	fuzz_check(PG_exception_stack != NULL);
	siglongjmp(*PG_exception_stack, 1);
}

int
errcode(int sqlerrcode)
{
	fuzz_error.code = sqlerrcode;
	return 0;
}

static void
format(char *out, size_t size, const char *text, va_list args)
{
	/* What does not fit here is formatted all the same. */
	(void) vsnprintf(out, size, text, args);
}

int
errmsg(const char *text,...)
{
	va_list		args;

	va_start(args, text);
	format(fuzz_error.message, sizeof(fuzz_error.message), text, args);
	va_end(args);
	return 0;
}

int
errmsg_internal(const char *text,...)
{
	va_list		args;

	va_start(args, text);
	format(fuzz_error.message, sizeof(fuzz_error.message), text, args);
	va_end(args);
	return 0;
}

int
errdetail(const char *text,...)
{
	va_list		args;

	va_start(args, text);
	format(fuzz_error.detail, sizeof(fuzz_error.detail), text, args);
	va_end(args);
	return 0;
}

int
errhint(const char *text,...)
{
	va_list		args;

	va_start(args, text);
	format(fuzz_error.hint, sizeof(fuzz_error.hint), text, args);
	va_end(args);
	return 0;
}

void
pg_re_throw(void)
{
	siglongjmp(*PG_exception_stack, 1);
}

bool
fuzz_raises(void (*call) (void *arg), void *arg, const int *codes)
{
	volatile bool raised = false;
	MemoryContext saved = CurrentMemoryContext;

	PG_TRY();
	{
		call(arg);
	}
	PG_CATCH();
	{
		raised = true;
	}
	PG_END_TRY();
	CurrentMemoryContext = saved;
	if (raised)
	{
		while (*codes != 0 && *codes != fuzz_error.code)
			codes++;
		if (*codes == 0)
			fuzz_fail(__FILE__, __LINE__, fuzz_error.message);
	}
	return raised;
}

void
ExceptionalCondition(const char *conditionName,
#if PG_VERSION_NUM < 160000
					 const char *errorType,
#endif
					 const char *fileName, int lineNumber)
{
	fuzz_fail(fileName, lineNumber, conditionName);
}

void
ProcessInterrupts(void)
{
}
