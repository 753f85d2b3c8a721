/*-------------------------------------------------------------------------
 *
 * page_marks.c
 *	  Pages of the lock table that a mirror has to read, now or later.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "page_marks.h"

bool
page_marks_any(const PageMarks *marks)
{
	for (int i = 0; i < DIRTY_WORDS; i++)
	{
		if (marks->words[i] != 0)
			return true;
	}
	return false;
}

void
page_marks_set_all(PageMarks *marks)
{
	memset(marks, 0xff, sizeof(PageMarks));
}

void
page_marks_clear(PageMarks *marks)
{
	memset(marks, 0, sizeof(PageMarks));
}

void
page_marks_add(PageMarks *marks, const uint32 *more)
{
	for (int i = 0; i < DIRTY_WORDS; i++)
		marks->words[i] |= more[i];
}

void
later_marks_set(LaterMarks *later, BlockNumber page, int64 due)
{
	uint32		bit = page % DIRTY_BITS;

	later->marks.words[bit / 32] |= (uint32) 1 << (bit % 32);
	later->due = Min(later->due, due);
}

void
later_marks_clear(LaterMarks *later)
{
	page_marks_clear(&later->marks);
	later->due = NEVER;
}

bool
later_marks_move(LaterMarks *later, int64 now, PageMarks *marks)
{
	if (later->due > now)
		return false;
	page_marks_add(marks, later->marks.words);
	later_marks_clear(later);
	return true;
}
