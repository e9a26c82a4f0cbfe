# Frames coming in. Whole frames are read where they lie in the caller's chunk; a frame that is cut off by its
# end is kept, or if it is one of a large body, joins that body as it comes. Method, header and body frames of
# one content are joined channel by channel.
#
# A frame's size is checked before a byte of it is kept, a body's before a byte of it is allocated; and a body
# grows as it comes, so that a size that is only claimed costs nothing.

cdef enum:
    EXPECT_METHOD = 0
    EXPECT_HEADER = 1
    EXPECT_BODY = 2

    FIRST_BODY_ALLOCATION = 65536  # bytes; then doubled
    FRAME_ROOM = 131072  # bytes; a frame that has begun gets so much at once
    LARGE_FRAME = 4096  # bytes; of a body, when it is cut off, it is not kept but appended

cdef Heartbeat HEARTBEAT = Heartbeat()


@cython.internal
@cython.final
cdef class Content:
    """The content that one channel is receiving."""

    cdef uint16_t channel
    cdef int expects
    cdef Delivery delivery
    cdef Returned returned
    cdef uint64_t size
    cdef uint64_t received
    cdef PyObject* body  # a bytes object of `capacity` that nobody else has seen yet
    cdef uint64_t capacity

    def __cinit__(self):
        self.body = NULL
        self.expects = EXPECT_METHOD

    def __dealloc__(self):
        Py_XDECREF(self.body)

    cdef int append(self, const uint8_t* source, size_t count, size_t more) except -1:
        """More of the body, and room for what is to come in the same frame, though not for more than a few
        bytes that are only claimed. The caller has checked that all is no more than was announced."""
        cdef uint64_t wanted = self.received + count + min(more, <size_t>FRAME_ROOM)
        if self.body == NULL:
            self.capacity = min(self.size, max(wanted, <uint64_t>FIRST_BODY_ALLOCATION))
            body = PyBytes_FromStringAndSize(NULL, <Py_ssize_t>self.capacity)
            Py_INCREF(body)
            self.body = <PyObject*>body
        elif wanted > self.capacity:
            self.capacity = min(self.size, max(wanted, self.capacity * 2))
            _PyBytes_Resize(&self.body, <Py_ssize_t>self.capacity)
        memcpy(PyBytes_AS_STRING(<object>self.body) + self.received, source, count)
        self.received += count
        return 0

    cdef bytes take_body(self):
        if self.body == NULL:
            return b""
        body = <object>self.body
        Py_XDECREF(self.body)
        self.body = NULL
        return body


cdef object unknown_frame(const uint8_t* at):
    if memcmp(at, b"AMQP", 4) == 0:
        return MalformedFrame("the broker answered with a protocol header: it does not speak AMQP 0-9-1")
    return MalformedFrame(
        f"a frame of unknown type {at[0]}; if it is the first, this is not the port of an AMQP broker,"
        " or one that wants TLS"
    )


cdef object wrong_end(uint8_t byte):
    return MalformedFrame(f"a frame ends with {byte:#04x} instead of 0xce")


@cython.final
cdef class FrameDecoder:
    """Incremental decoder of one connection's inbound bytes; any chunking gives the same items."""

    cdef public unsigned int frame_max
    cdef public object epoch
    cdef uint64_t max_message_size
    cdef uint8_t* kept  # the frame that was cut off, as far as it has come
    cdef size_t kept_used
    cdef size_t kept_size
    cdef size_t kept_total  # its whole size, 0 until its prefix is complete
    cdef size_t running  # of the body frame that joins `content` as it comes: bytes to come, end octet too
    cdef Content content  # of the channel that spoke last
    cdef dict contents  # of all channels
    cdef dict queues  # consumer tag -> queue
    cdef str last_tag
    cdef object last_queue
    cdef bint broken

    def __cinit__(self):
        self.kept = NULL
        self.content = Content.__new__(Content)
        self.contents = {0: self.content}
        self.queues = {}

    def __dealloc__(self):
        PyMem_Free(self.kept)

    def __init__(self, frame_max=131072, max_message_size=134217728, epoch=0):
        self.frame_max = frame_max
        self.max_message_size = min(max_message_size, PY_SSIZE_T_MAX // 2)
        self.epoch = epoch

    def name_consumer(self, str consumer_tag not None, str queue not None):
        """Deliveries of that consumer tag get this queue name."""
        self.queues[consumer_tag] = queue
        self.last_tag = None

    @property
    def between_frames(self):
        """Whether the next byte begins a frame."""
        return self.kept_used == 0 and self.running == 0 and not self.broken

    @property
    def buffered(self):
        """Bytes held of frames and bodies that are not complete yet."""
        cdef uint64_t held = self.kept_used
        for content in self.contents.values():
            held += (<Content>content).received if (<Content>content).body != NULL else 0
        return held

    def feed(self, data):
        """Whole items, in order; an incomplete rest is kept. Raises MalformedFrame or MessageTooLarge;
        the decoder is of no use after that. MessageTooLarge has ``channel`` and ``delivery_tag`` (None for a
        returned message), so that the broker can be told to drop it before the connection is closed."""
        cdef Py_buffer view
        cdef list items = []
        if self.broken:
            raise MalformedFrame("the bytes before could not be read, so those that follow have no meaning")
        PyObject_GetBuffer(data, &view, PyBUF_SIMPLE)
        self.broken = True  # until all of it was read
        try:
            self.consume(<const uint8_t*>view.buf, view.len, items)
        except DecodeError as error:
            if isinstance(error, MalformedFrame):
                raise
            raise MalformedFrame(str(error)) from None
        finally:
            PyBuffer_Release(&view)
        self.broken = False
        return items

    cdef int consume(self, const uint8_t* at, size_t count, list items) except -1:
        cdef const uint8_t* end = at + count
        cdef size_t total
        if self.running:
            at = self.run_on(at, end, items)
        elif self.kept_used:
            at = self.complete(at, end)
            if self.kept_total == 0 or self.kept_used < self.kept_total:
                return 0
            self.read_frame(self.kept, self.kept_total, items)
            self.kept_used = self.kept_total = 0
        while end - at >= FRAME_PREFIX:
            total = self.frame_size(at)
            if <size_t>(end - at) < total:
                if at[0] == FRAME_BODY and total >= LARGE_FRAME:
                    self.begin_running(get_u16(at + 1), total - FRAME_OVERHEAD)
                    at = self.run_on(at + FRAME_PREFIX, end, items)
                break
            self.read_frame(at, total, items)
            at += total
        if at < end:
            at = self.complete(at, end)
        return 0

    cdef int begin_running(self, uint16_t channel, size_t count) except -1:
        """A body frame of so many bytes has begun."""
        self.select(channel)
        self.check_body(count)
        self.running = count + 1
        return 0

    cdef const uint8_t* run_on(self, const uint8_t* at, const uint8_t* end, list items) except NULL:
        """More of it; where the next frame begins."""
        cdef Content content = self.content
        cdef size_t count = min(self.running - 1, <size_t>(end - at))
        if count:
            content.append(at, count, self.running - 1 - count)
            self.running -= count
            at += count
        if self.running == 1 and at < end:
            if at[0] != FRAME_END:
                raise wrong_end(at[0])
            at += 1
            self.running = 0
            if content.received == content.size:
                self.finish(content, content.take_body(), items)
        return at

    cdef const uint8_t* complete(self, const uint8_t* at, const uint8_t* end) except NULL:
        """Keep bytes up to the end of the frame they belong to; where the next one begins."""
        cdef size_t wanted
        if self.kept_used < FRAME_PREFIX:
            wanted = min(FRAME_PREFIX - self.kept_used, <size_t>(end - at))
            self.keep(at, wanted)
            at += wanted
            if self.kept_used < FRAME_PREFIX:
                return at
            self.kept_total = self.frame_size(self.kept)
        wanted = min(self.kept_total - self.kept_used, <size_t>(end - at))
        self.keep(at, wanted)
        return at + wanted

    cdef int keep(self, const uint8_t* at, size_t count) except -1:
        cdef size_t size = self.kept_size
        cdef uint8_t* kept
        if self.kept_used + count > size:
            size = max(self.kept_used + count, size * 2, <size_t>4096)
            kept = <uint8_t*>PyMem_Realloc(self.kept, size)
            if kept == NULL:
                raise MemoryError
            self.kept = kept
            self.kept_size = size
        memcpy(self.kept + self.kept_used, at, count)
        self.kept_used += count
        return 0

    cdef size_t frame_size(self, const uint8_t* at) except 0:
        """The whole size of the frame whose prefix stands there, checked."""
        cdef uint64_t total = <uint64_t>get_u32(at + 3) + FRAME_OVERHEAD
        cdef uint64_t limit = self.frame_max
        cdef uint8_t kind = at[0]
        if kind not in (FRAME_METHOD, FRAME_HEADER, FRAME_BODY, FRAME_HEARTBEAT):
            raise unknown_frame(at)
        if limit == 0:  # none was agreed on
            limit = max(self.max_message_size, <uint64_t>131072) + FRAME_OVERHEAD
        if total > limit:
            raise MalformedFrame(f"a frame of {total} bytes came; {limit} were agreed on")
        return <size_t>total

    cdef int read_frame(self, const uint8_t* at, size_t total, list items) except -1:
        cdef uint16_t channel = get_u16(at + 1)
        cdef Cursor cursor
        if at[total - 1] != FRAME_END:
            raise wrong_end(at[total - 1])
        cursor.at = at + FRAME_PREFIX
        cursor.end = at + total - 1
        if at[0] == FRAME_HEARTBEAT:
            if channel != 0 or cursor.at != cursor.end:
                raise MalformedFrame("a heartbeat frame with a channel or a payload")
            items.append(HEARTBEAT)
            return 0
        self.select(channel)
        if at[0] == FRAME_METHOD:
            return self.read_method(channel, &cursor, items)
        if at[0] == FRAME_HEADER:
            return self.read_content_header(&cursor, items)
        return self.read_content_body(&cursor, items)

    cdef inline int select(self, uint16_t channel) except -1:
        """Make ``content`` that of the channel."""
        if self.content.channel != channel:
            content = self.contents.get(channel)
            if content is None:
                content = Content.__new__(Content)
                (<Content>content).channel = channel
                self.contents[channel] = content
            self.content = <Content>content
        return 0

    # -- methods ---------------------------------------------------------------------------------------

    cdef int read_method(self, uint16_t channel, Cursor* cursor, list items) except -1:
        cdef uint16_t class_id = read_u16(cursor)
        cdef uint16_t method_id = read_u16(cursor)
        cdef Method method
        if self.content.expects != EXPECT_METHOD:
            raise MalformedFrame(f"channel {channel}: a method came where the rest of a message should")
        if (class_id == 10) != (channel == 0):
            raise MalformedFrame(f"method {method_name(class_id, method_id)} came on channel {channel}")
        if class_id == CLASS_BASIC:
            if method_id == BASIC_DELIVER:
                return self.read_deliver(cursor)
            if method_id == BASIC_GET_OK:
                return self.read_get_ok(cursor)
            if method_id == BASIC_RETURN:
                return self.read_return(cursor)
        entry = method_entry(class_id, method_id)
        if entry is None:
            raise MalformedFrame(f"channel {channel}: unknown method {class_id}.{method_id}")
        method = Method.__new__(Method)
        method.channel = channel
        method.class_id = class_id
        method.method_id = method_id
        method.args = read_args(cursor, <bytes>(<tuple>entry)[1])
        items.append(method)
        return 0

    cdef int read_deliver(self, Cursor* cursor) except -1:
        cdef Delivery delivery = Delivery.__new__(Delivery)
        cdef str tag = read_short_name(cursor)
        if tag is not self.last_tag:
            self.last_queue = self.queues.get(tag, "")
            self.last_tag = tag
        delivery.consumer_tag = tag
        delivery.queue = self.last_queue
        return self.begin_delivery(cursor, delivery, 0)

    cdef int read_get_ok(self, Cursor* cursor) except -1:
        cdef Delivery delivery = Delivery.__new__(Delivery)
        delivery.consumer_tag = ""
        delivery.queue = ""
        return self.begin_delivery(cursor, delivery, 4)  # its count of the messages left is not passed on

    cdef int begin_delivery(self, Cursor* cursor, Delivery delivery, size_t surplus) except -1:
        delivery.tag = read_u64(cursor)
        delivery.redelivered = read_u8(cursor) & 1
        delivery.exchange = read_short_name(cursor)
        delivery.routing_key = read_short_name(cursor)
        delivery.epoch = self.epoch
        read_span(cursor, surplus)
        return self.begin_content(cursor, delivery, None)

    cdef int read_return(self, Cursor* cursor) except -1:
        cdef Returned returned = Returned.__new__(Returned)
        cdef Delivery delivery = Delivery.__new__(Delivery)
        returned.channel = self.content.channel
        returned.reply_code = read_u16(cursor)
        returned.reply_text = read_short_name(cursor)
        returned.exchange = delivery.exchange = read_short_name(cursor)
        returned.routing_key = delivery.routing_key = read_short_name(cursor)
        return self.begin_content(cursor, delivery, returned)

    cdef int begin_content(self, Cursor* cursor, Delivery delivery, Returned returned) except -1:
        if cursor.at != cursor.end:
            raise MalformedFrame(f"{cursor_left(cursor)} bytes follow the method's last field")
        self.content.delivery = delivery
        self.content.returned = returned
        self.content.expects = EXPECT_HEADER
        return 0

    # -- content ---------------------------------------------------------------------------------------

    cdef int read_content_header(self, Cursor* cursor, list items) except -1:
        cdef Content content = self.content
        cdef uint16_t class_id
        if content.expects != EXPECT_HEADER:
            raise MalformedFrame(f"channel {content.channel}: a content header came without its method")
        class_id = read_u16(cursor)
        if class_id != CLASS_BASIC:
            raise MalformedFrame(f"channel {content.channel}: a content header of class {class_id}")
        read_u16(cursor)  # the weight, unused
        content.size = read_u64(cursor)
        cursor_need(cursor, 2)
        if content.size > self.max_message_size:
            raise self.too_large(content)
        content.delivery._raw = PyBytes_FromStringAndSize(<const char*>cursor.at, cursor_left(cursor))
        content.received = 0
        content.expects = EXPECT_BODY
        return 0 if content.size else self.finish(content, b"", items)

    cdef object too_large(self, Content content):
        if content.returned is None:
            tag = content.delivery.tag
            what = f"message {tag} of queue {content.delivery.queue!r}"
        else:
            tag = None
            what = "a returned message"
        error = MessageTooLarge(
            f"{what} has a body of {content.size} bytes; max_message_size is {self.max_message_size}"
        )
        error.channel = content.channel
        error.delivery_tag = tag
        return error

    cdef inline int check_body(self, size_t count) except -1:
        """Whether so much more of a body may come now."""
        cdef Content content = self.content
        if content.expects != EXPECT_BODY:
            raise MalformedFrame(f"channel {content.channel}: a body came without its header")
        if count > content.size - content.received:
            raise MalformedFrame(f"channel {content.channel}: a body exceeds its {content.size} bytes")
        return 0

    cdef int read_content_body(self, Cursor* cursor, list items) except -1:
        cdef Content content = self.content
        cdef size_t count = cursor_left(cursor)
        self.check_body(count)
        if count == content.size:  # all in one frame, as most are
            return self.finish(content, PyBytes_FromStringAndSize(<const char*>cursor.at, count), items)
        if count:
            content.append(cursor.at, count, 0)
        if content.received == content.size:
            return self.finish(content, content.take_body(), items)
        return 0

    cdef int finish(self, Content content, bytes body, list items) except -1:
        cdef Delivery delivery = content.delivery
        cdef Returned returned = content.returned
        content.expects = EXPECT_METHOD
        content.delivery = None
        delivery._body = body
        if returned is None:
            items.append(delivery)
            return 0
        content.returned = None
        returned.message = delivery.to_message()
        items.append(returned)
        return 0
