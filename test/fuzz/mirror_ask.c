/*-------------------------------------------------------------------------
 *
 * mirror_ask.c
 *	  Fuzzes the messages by which the worker tells a session of differences.
 *
 * sources: mirror_ask.c
 * lines: 90
 *
 * What was packed comes out as it went in, from memory that ends where the message
 * does, and whatever keys, texts and names are.
 *
 *-------------------------------------------------------------------------
 */
#include "fuzz.h"

#include "storage/dsm.h"
#include "storage/latch.h"
#include "storage/proc.h"
#include "storage/shm_mq.h"

#include "mirror_ask.h"

static MirrorAnswer answers[16];
static int	num_answers;
static int	num_received;
static int	num_handled;
static FuzzInput *decisions;
static DatabaseSlot slot;
static on_dsm_detach_callback at_detach;
static Datum at_detach_arg;

static const int codes[] = {ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE, 0};

PGPROC	   *MyProc = NULL;
struct Latch *MyLatch = NULL;

static void ask(void *arg);
static void handle(const MirrorAnswer *answer, void *arg);

/* ------------------------------------------------------ what it calls -- */

DatabaseSlot *
shared_slot(void)
{
	return &slot;
}

DatabaseSlot *
shared_slot_if_attached(void)
{
	return &slot;
}

void
shared_lock(void)
{
}

void
shared_unlock(void)
{
}

void
shared_wake(int proc)
{
}

dsm_segment *
dsm_create(Size size, int flags)
{
	return palloc(8);
}

void *
dsm_segment_address(dsm_segment *segment)
{
	return segment;
}

dsm_handle
dsm_segment_handle(dsm_segment *segment)
{
	return 42;
}

void
on_dsm_detach(dsm_segment *segment, on_dsm_detach_callback function, Datum arg)
{
	at_detach = function;
	at_detach_arg = arg;
}

void
dsm_detach(dsm_segment *segment)
{
	fuzz_check(slot.check == 42);
	at_detach(segment, at_detach_arg);
	fuzz_check(slot.check == 0);
	pfree(segment);
}

shm_mq *
shm_mq_create(void *address, Size size)
{
	return address;
}

void
shm_mq_set_receiver(shm_mq *queue, PGPROC *proc)
{
}

shm_mq_handle *
shm_mq_attach(shm_mq *queue, dsm_segment *segment,
			  BackgroundWorkerHandle *handle)
{
	return palloc(8);
}

int
WaitLatch(Latch *latch, int wakeEvents, long timeout, uint32 wait_event_info)
{
	fuzz_pass_time(timeout * 1000);
	return WL_TIMEOUT;
}

void
ResetLatch(Latch *latch)
{
}

#if PG_VERSION_NUM >= 170000
uint32
WaitEventExtensionNew(const char *name)
{
	return 1;
}
#endif

/*
 * The next message, in memory that ends with it.
 */
shm_mq_result
shm_mq_receive(shm_mq_handle *handle, Size *length, void **message,
			   bool nowait)
{
	StringInfoData packed;

	if (fuzz_up_to(decisions, 7) == 7)
	{
		slot.state = fuzz_up_to(decisions, 7) == 7 ? WORKER_ENDED : WORKER_RUNNING;
		return SHM_MQ_WOULD_BLOCK;
	}
	if (fuzz_up_to(decisions, 63) == 63)
		return SHM_MQ_DETACHED;
	initStringInfo(&packed);
	if (num_received < num_answers)
		mirror_ask_pack(&packed, &answers[num_received++]);
	else
		appendStringInfoChar(&packed, fuzz_up_to(decisions, 7) == 7 ?
							 ANSWER_NO_MIRROR : ANSWER_END);
	*length = packed.len;
	*message = memcpy(palloc(packed.len), packed.data, packed.len);
	pfree(packed.data);
	return SHM_MQ_SUCCESS;
}

/* ------------------------------------------------------------------- runs -- */

void
fuzz_one(FuzzInput *input)
{
	int64		timeout = fuzz_up_to(input, 30000) * INT64CONST(1000);

	memset(&slot, 0, sizeof(slot));
	slot.worker_pid = 4712;
	slot.state = WORKER_RUNNING;
	num_answers = fuzz_up_to(input, lengthof(answers));
	num_received = num_handled = 0;
	memset(answers, 0, sizeof(answers));
	for (int i = 0; i < num_answers; i++)
	{
		MirrorAnswer *answer = &answers[i];
		int			has = fuzz_byte(input);
		size_t		length;

		if ((has & 1) != 0)
		{
			length = fuzz_up_to(input, KEY_MAX_BYTES);
			answer->key = fuzz_bytes(input, &length);
			answer->key_length = length;
		}
		if ((has & 2) != 0)
		{
			length = fuzz_up_to(input, 700);
			answer->redis_key = fuzz_bytes(input, &length);
			answer->redis_length = length;
		}
		answer->problem = fuzz_string(input);
		answer->mirror = fuzz_string(input);
	}
	decisions = input;
	if (!fuzz_raises(ask, &timeout, codes))
		fuzz_check(num_handled == num_answers && slot.check == 0);
}

static void
ask(void *arg)
{
	mirror_ask(*(int64 *) arg, handle, &slot);
}

static void
handle(const MirrorAnswer *answer, void *arg)
{
	const MirrorAnswer *expected = &answers[num_handled++];

	fuzz_check(arg == &slot);
	fuzz_check((answer->key == NULL) == (expected->key == NULL));
	fuzz_check(answer->key_length == expected->key_length);
	fuzz_check(answer->key == NULL ||
			   memcmp(answer->key, expected->key, expected->key_length) == 0);
	fuzz_check((answer->redis_key == NULL) == (expected->redis_key == NULL));
	fuzz_check(answer->redis_length == expected->redis_length);
	fuzz_check(answer->redis_key == NULL ||
			   memcmp(answer->redis_key, expected->redis_key,
					  expected->redis_length) == 0);
	fuzz_check(strcmp(answer->problem, expected->problem) == 0);
	fuzz_check(strcmp(answer->mirror, expected->mirror) == 0);
}
