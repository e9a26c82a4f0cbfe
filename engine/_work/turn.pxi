# A child's loop over what it has claimed: each message sorted, run between two locks of the gate, accounted.

# phases in the scoreboard (`engine.worker.scoreboard` names them)
cdef enum:
    RUNNING = 3
    SETTLING = 4
    RUNNING_ACKED = 7

#: a task that took longer than this is followed by a sign of life
cdef double LONG_AGO_S = 1.0
#: an outcome that has waited so long is settled before the next task
cdef double FLUSH_AFTER_S = 0.010


cdef class Executor:
    """Runs jobs of one app in this process. A subclass has ``request(message, delivery)``, which makes a
    task's request; ``announce_before(job)`` and ``announce_after(job, running, outcome)``, called when a
    signal has receivers; and ``escaped(job, error, soft_s)`` for what gets past the runner.

    Args:
        app: the app.
        runner: runs a task once.
        soft: the soft limit, armed around user code only.
        before, after: the signals that may have receivers.
    """

    cdef object app
    cdef Runner runner
    cdef object soft
    cdef object before
    cdef tuple after

    def __init__(self, app, Runner runner not None, soft, before, tuple after not None):
        self.app = app
        self.runner = runner
        self.soft = soft
        self.before = before
        self.after = after

    cpdef Outcome run(self, Job job, double soft_s):
        """Run the job's task. ``soft_s`` 0.0 is no soft limit. Raises nothing."""
        cdef Known known = job.known
        cdef Running running = running_job(job, self)
        cdef Outcome outcome
        if self.before.receivers:
            self.announce_before(job)
        try:
            if soft_s:
                self.soft.arm(soft_s)
            outcome = self.runner.run(self.app, running, job.message, known.call, known.hooks, known.stores)
            if soft_s:
                self.soft.disarm()
        except BaseException as error:  # a task must not end its child by an exception
            if soft_s:
                self.soft.disarm()
            outcome = self.escaped(job, error, soft_s)
        if outcome.state != "SUCCESS" or self.is_heard():
            self.announce_after(job, running, outcome)
        if running.made is not None and running.made._children:
            job.children = running.made.children_as_tuples()
        return outcome

    cdef bint is_heard(self) except -1:
        for signal in self.after:
            if signal.receivers:
                return True
        return False


cdef class Turn:
    """The part of a child that every task goes through. `engine.worker.child` is the rest, and has:
    ``refill()`` for an empty buffer, ``heed()`` when the supervisor has said something, ``prepare(job)`` for
    tasks that are not short, ``note_failure(job)``, ``settle(now)``, ``log_ended(job)``,
    ``recycle_if_due(now)``, ``has_claimed()``, ``sign_of_life()`` and ``cut_off()``.

    Attributes:
        gate: a lock, held whenever the transport is used: always, but while user code runs.
        task_started_mono_s: when the running task started; 0.0 between tasks.
        task_deadline_mono_s: its hard limit; 0.0 for none.
        stop_why: set: the loop ends between two tasks.
        guarded: whether the transport's guard stands. Whoever uses the transport puts it down.
        batch: so many outcomes are settled together at most.
        ran, failed: tasks, since the child was made.
        unobserved, busy_s, longest_s: tasks since the prefetch was last adapted, and how long they took.
    """

    cdef public object gate
    cdef public double task_started_mono_s
    cdef public double task_deadline_mono_s
    cdef public object stop_why
    cdef public object transport
    cdef public bint guarded
    cdef public int batch
    cdef public long long ran
    cdef public long long failed
    cdef public long long unobserved
    cdef public double busy_s
    cdef public double longest_s
    cdef public uint32_t word
    cdef public bint logs_all
    cdef public bint has_limits
    cdef public bint wants_refresh
    cdef readonly object buffer
    cdef TaskRecord record
    cdef Executor executor
    cdef Sorter sorter
    cdef Pending settler
    cdef object flusher
    cdef int canary_fd

    def __init__(self, gate, buffer, Executor executor not None):
        self.gate = gate
        self.buffer = buffer
        self.executor = executor
        self.canary_fd = -1
        self.stop_why = ""
        self.batch = 1

    def take_place(self, TaskRecord record not None, int canary_fd):
        """In the child, before anything is run. The descriptor tells by its end that a task closed ours."""
        self.record = record
        self.canary_fd = canary_fd

    def use(self, Sorter sorter not None, Pending settler not None, flusher):
        """The parts that belong to a connection."""
        self.sorter = sorter
        self.settler = settler
        self.flusher = flusher

    def work(self):
        """Work until told to stop."""
        while not self.stop_why:
            if self.buffer:
                self.one(self.buffer.popleft())
                if self.record.word[0] != self.word:
                    self.heed()
            else:
                self.refill()

    cpdef int one(self, object delivery) except -1:
        """One message: sort it, and run it if it is to be run."""
        cdef Job job = self.sorter.sort(delivery)
        cdef Known known
        cdef double hard_s, soft_s, start, end, deadline
        if job is None:
            self.guarded = False
            if len(self.settler.pending) >= self.batch:
                self.settle(mono_s())
            return 0
        known = job.known
        if delivery.redelivered or job.message.eta is not None or job.message.expires is not None:
            self.guarded = False
        if not known.pace.short or known.careful:
            self.guarded = False
            self.prepare(job)
        hard_s = known.hard_s if job.message.time_limit is None else job.message.time_limit
        soft_s = known.soft_s if job.message.soft_time_limit is None else job.message.soft_time_limit
        start = mono_s()
        deadline = start + hard_s if hard_s else 0.0
        self.record.begin(
            job.message.id, job.message.task, start, deadline, RUNNING if job.finish == ACK else RUNNING_ACKED
        )
        self.task_deadline_mono_s = deadline
        self.task_started_mono_s = start
        if self.flusher.parked and (
            deadline or self.settler.pending or self.wants_refresh or self.has_claimed()
        ):
            self.flusher.watch()
        if not self.guarded:
            self.guarded = True
            self.transport.guard()
        self.gate.release()
        job.outcome = self.executor.run(job, soft_s)
        if forks.forked:  # by a hook or a signal's receiver; a fork of the task itself ends in the runner
            forks.leave(job.outcome.result)
        self.gate.acquire()
        if fcntl(self.canary_fd, F_GETFD) < 0:
            self.cut_off()
        self.task_started_mono_s = 0.0
        end = mono_s()
        if end - start >= LONG_AGO_S:  # in no task, but not deaf: the last sign of life is that old
            self.sign_of_life()
        self.record.phase(SETTLING)
        if job.outcome.state != "SUCCESS":
            self.note_failure(job)
        self.settler.add(job, end)
        self.account(job, known, end - start, end)
        return 0

    cdef int account(self, Job job, Known known, double duration_s, double end) except -1:
        known.pace.record(duration_s)
        self.busy_s += duration_s
        if duration_s > self.longest_s:
            self.longest_s = duration_s
        self.ran += 1
        self.unobserved += 1
        if self.logs_all or job.outcome.state == "FAILURE":
            self.log_ended(job)
        if len(self.settler.pending) >= self.batch or end - self.settler.oldest_mono_s >= FLUSH_AFTER_S:
            self.settle(end)
        if self.has_limits:
            self.recycle_if_due(end)
        return 0
