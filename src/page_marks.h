/*-------------------------------------------------------------------------
 *
 * page_marks.h
 *	  Pages of the lock table that a mirror has to read, now or later.
 *
 * A bit for each page, modulo so many, as in shared memory.
 *
 *-------------------------------------------------------------------------
 */
#ifndef DISTLOCK_PAGE_MARKS_H
#define DISTLOCK_PAGE_MARKS_H

#include "shared.h"

typedef struct PageMarks
{
	uint32		words[DIRTY_WORDS];
} PageMarks;

/* To be read at a time of steady_now(); NEVER when there are none. */
typedef struct LaterMarks
{
	PageMarks	marks;
	int64		due;
} LaterMarks;

#define NEVER PG_INT64_MAX

extern bool page_marks_any(const PageMarks *marks);
extern void page_marks_set_all(PageMarks *marks);
extern void page_marks_clear(PageMarks *marks);
extern void page_marks_add(PageMarks *marks, const uint32 *more);

/* The page is to be read at that time, or earlier. */
extern void later_marks_set(LaterMarks *later, BlockNumber page, int64 due);
extern void later_marks_clear(LaterMarks *later);

/* If it is time, all of them are to be read now; is it? */
extern bool later_marks_move(LaterMarks *later, int64 now, PageMarks *marks);

#endif							/* DISTLOCK_PAGE_MARKS_H */
