/*-------------------------------------------------------------------------
 *
 * mirror_ask.c
 *	  A session asks the worker to compare table and Redis.
 *
 * One session at a time; others wait for their turn, within their timeout.  The
 * request is taken back when the segment goes, however the call ends.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "miscadmin.h"
#include "storage/dsm.h"
#include "storage/latch.h"
#include "storage/proc.h"
#include "storage/shm_mq.h"

#include "compat.h"
#include "fail_point.h"
#include "mirror_ask.h"
#include "steady_clock.h"

#define QUEUE_SIZE 65536

/* How often to look whether the worker is there, and whose turn it is. */
#define LOOK_EVERY_MS 20

/* Lengths and flags at the beginning of a difference. */
typedef struct Header
{
	char		kind;
	bool		has_key;
	bool		has_redis_key;
	int			key_length;
	int			redis_length;
	int			problem_length;
} Header;

static void put_request(DatabaseSlot *slot, dsm_handle handle, int64 until);
static void take_request_back(dsm_segment *segment, Datum handle);
static void require_worker(DatabaseSlot *slot);
static void unpack(const char *message, Size length,
				   MirrorAnswerHandler handler, void *arg);
static void check_deadline(int64 until);
static void wait_a_little(int64 until);

void
mirror_ask(int64 timeout, MirrorAnswerHandler handler, void *arg)
{
	DatabaseSlot *slot = shared_slot();
	int64		until = steady_now() + timeout;
	dsm_segment *segment;
	shm_mq	   *queue;
	shm_mq_handle *handle;
	bool		done = false;

	require_worker(slot);
	segment = dsm_create(QUEUE_SIZE, 0);
	queue = shm_mq_create(dsm_segment_address(segment), QUEUE_SIZE);
	shm_mq_set_receiver(queue, MyProc);
	handle = shm_mq_attach(queue, segment, NULL);
	on_dsm_detach(segment, take_request_back,
				  UInt32GetDatum(dsm_segment_handle(segment)));
	put_request(slot, dsm_segment_handle(segment), until);
	FAIL_POINT("mirror_check_asked");
	shared_wake(slot->worker_proc);

	while (!done)
	{
		void	   *message;
		Size		length;

		switch (shm_mq_receive(handle, &length, &message, true))
		{
			case SHM_MQ_SUCCESS:
				if (*(char *) message == ANSWER_NO_MIRROR)
					ereport(ERROR,
							(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
							 errmsg("this database has no mirror in Redis"),
							 errhint("Set distlock.redis_url, and reload the configuration.")));
				done = *(char *) message == ANSWER_END;
				if (!done)
					unpack(message, length, handler, arg);
				check_deadline(until);
				break;
			case SHM_MQ_WOULD_BLOCK:
				require_worker(slot);
				wait_a_little(until);
				break;
			case SHM_MQ_DETACHED:
				require_worker(slot);
				ereport(ERROR,
						(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
						 errmsg("the mirrors of this database have been set up anew meanwhile"),
						 errhint("Try again.")));
		}
	}
	dsm_detach(segment);
}

void
mirror_ask_pack(StringInfo message, const MirrorAnswer *answer)
{
	Header		header = {ANSWER_DIFFERENCE};

	header.has_key = answer->key != NULL;
	header.has_redis_key = answer->redis_key != NULL;
	header.key_length = answer->key_length;
	header.redis_length = answer->redis_length;
	header.problem_length = strlen(answer->problem);
	appendBinaryStringInfo(message, (char *) &header, sizeof(header));
	if (answer->key != NULL)
		appendBinaryStringInfo(message, answer->key, answer->key_length);
	if (answer->redis_key != NULL)
		appendBinaryStringInfo(message, answer->redis_key,
							   answer->redis_length);
	appendBinaryStringInfo(message, answer->problem,
						   header.problem_length + 1);
	appendBinaryStringInfo(message, answer->mirror,
						   strlen(answer->mirror) + 1);
}

static void
put_request(DatabaseSlot *slot, dsm_handle handle, int64 until)
{
	for (;;)
	{
		bool		free;

		shared_lock();
		free = slot->check == 0;
		if (free)
			slot->check = handle;
		shared_unlock();
		if (free)
			return;
		require_worker(slot);
		wait_a_little(until);
	}
}

static void
take_request_back(dsm_segment *segment, Datum handle)
{
	DatabaseSlot *slot = shared_slot_if_attached();

	if (slot == NULL)
		return;
	shared_lock();
	if (slot->check == DatumGetUInt32(handle))
		slot->check = 0;
	shared_unlock();
}

static void
require_worker(DatabaseSlot *slot)
{
	if (slot == NULL || slot->worker_pid == 0 || slot->state != WORKER_RUNNING)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("the worker of this database is not running"),
				 errhint("See the view distlock.worker_status; start it with distlock.start_worker().")));
}

static void
unpack(const char *message, Size length, MirrorAnswerHandler handler,
	   void *arg)
{
	MirrorAnswer answer;
	Header		header;

	memcpy(&header, message, sizeof(header));
	message += sizeof(header);
	answer.key = header.has_key ? message : NULL;
	answer.key_length = header.key_length;
	message += header.key_length;
	answer.redis_key = header.has_redis_key ? message : NULL;
	answer.redis_length = header.redis_length;
	message += header.redis_length;
	answer.problem = message;
	answer.mirror = message + header.problem_length + 1;
	handler(&answer, arg);
}

static void
check_deadline(int64 until)
{
	CHECK_FOR_INTERRUPTS();
	if (steady_now() > until)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("the worker has not finished the comparison in time"),
				 errhint("Give it more time, and see the view distlock.mirror_status.")));
}

static void
wait_a_little(int64 until)
{
	check_deadline(until);
	(void) WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH,
					 LOOK_EVERY_MS, compat_wait_event_mirror());
	ResetLatch(MyLatch);
}
