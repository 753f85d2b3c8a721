/*-------------------------------------------------------------------------
 *
 * memory.c
 *	  Memory contexts, on top of malloc.
 *
 * Each allocation is one of malloc's, with a header in front that AddressSanitizer is
 * told to guard.
 *
 *-------------------------------------------------------------------------
 */
#include "fuzz.h"

#include <sanitizer/asan_interface.h>

#include "miscadmin.h"
#include "utils/memutils.h"

/* See give_memory_back(). */
#define LARGE (512 * 1024)

/* Before each allocation; poisoned, as nobody but the functions here may see it. */
typedef struct Chunk
{
	struct Context *context;
	size_t		place;			/* among those of the context */
	size_t		size;
} Chunk;

typedef struct Context
{
	MemoryContextData base;
	Chunk	  **chunks;
	size_t		n;
	size_t		room;
} Context;

static Context top_context;
static Context run_context;
static Context xact_context;
static void *spare = NULL;
static size_t spare_size;

MemoryContext TopMemoryContext = &top_context.base;
MemoryContext TopTransactionContext = &xact_context.base;
MemoryContext CurrentMemoryContext = &run_context.base;

static void *get_memory(size_t size);
static void give_memory_back(Chunk *chunk);
static Chunk *open_chunk(void *pointer);
static void *close_chunk(Chunk *chunk);

static Chunk *
open_chunk(void *pointer)
{
	Chunk	   *chunk = (Chunk *) pointer - 1;

	ASAN_UNPOISON_MEMORY_REGION(chunk, sizeof(Chunk));
	return chunk;
}

static void *
close_chunk(Chunk *chunk)
{
	ASAN_POISON_MEMORY_REGION(chunk, sizeof(Chunk));
	return chunk + 1;
}

void *
MemoryContextAlloc(MemoryContext context, Size size)
{
	Context    *where = (Context *) context;
	Chunk	   *chunk;

	if (!AllocSizeIsValid(size))
		fuzz_fail(__FILE__, __LINE__, "memory of that size can be asked for");
	if (where->n == where->room)
	{
		where->room = Max(64, 2 * where->room);
		where->chunks = realloc(where->chunks, where->room * sizeof(Chunk *));
	}
	chunk = get_memory(sizeof(Chunk) + size);
	chunk->context = where;
	chunk->place = where->n;
	chunk->size = size;
	where->chunks[where->n++] = chunk;
	/* Who relies on what is in there is to be found out. */
	memset(chunk + 1, 0x7f, size);
	return close_chunk(chunk);
}

void
pfree(void *pointer)
{
	Chunk	   *chunk = open_chunk(pointer);
	Context    *where = chunk->context;
	Chunk	   *last = where->chunks[--where->n];

	if (last != chunk)
	{
		open_chunk(last + 1)->place = chunk->place;
		where->chunks[chunk->place] = last;
		close_chunk(last);
	}
	give_memory_back(chunk);
}

/*
 * The last large piece is kept, poisoned: to map and clear it anew would take most
 * of the time of a run.
 */
static void *
get_memory(size_t size)
{
	void	   *result = spare;

	if (spare == NULL || size != spare_size)
		return malloc(size);
	ASAN_UNPOISON_MEMORY_REGION(spare, spare_size);
	spare = NULL;
	return result;
}

static void
give_memory_back(Chunk *chunk)
{
	if (chunk->size < LARGE || spare != NULL)
	{
		free(chunk);
		return;
	}
	spare_size = sizeof(Chunk) + chunk->size;
	spare = chunk;
	ASAN_POISON_MEMORY_REGION(spare, spare_size);
}

void *
MemoryContextAllocZero(MemoryContext context, Size size)
{
	return memset(MemoryContextAlloc(context, size), 0, size);
}

void *
MemoryContextAllocZeroAligned(MemoryContext context, Size size)
{
	return MemoryContextAllocZero(context, size);
}

void *
palloc(Size size)
{
	return MemoryContextAlloc(CurrentMemoryContext, size);
}

void *
palloc0(Size size)
{
	return MemoryContextAllocZero(CurrentMemoryContext, size);
}

void *
repalloc(void *pointer, Size size)
{
	Chunk	   *chunk = open_chunk(pointer);
	Context    *where = chunk->context;
	size_t		old = chunk->size;
	void	   *result;

	close_chunk(chunk);
	result = MemoryContextAlloc(&where->base, size);
	memcpy(result, pointer, Min(old, size));
	pfree(pointer);
	return result;
}

char *
MemoryContextStrdup(MemoryContext context, const char *string)
{
	return strcpy(MemoryContextAlloc(context, strlen(string) + 1), string);
}

char *
pstrdup(const char *string)
{
	return MemoryContextStrdup(CurrentMemoryContext, string);
}

MemoryContext
AllocSetContextCreateInternal(MemoryContext parent, const char *name,
							  Size minContextSize, Size initBlockSize,
							  Size maxBlockSize)
{
	return calloc(1, sizeof(Context));
}

void
MemoryContextReset(MemoryContext context)
{
	Context    *where = (Context *) context;

	while (where->n > 0)
		pfree(where->chunks[where->n - 1] + 1);
}

void
MemoryContextDelete(MemoryContext context)
{
	MemoryContextReset(context);
	free(((Context *) context)->chunks);
	free(context);
}

int
fuzz_top_chunks(void)
{
	return top_context.n;
}
