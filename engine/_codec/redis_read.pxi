# The envelope of redis_envelope.pxi read: any of them through `json_decode`, every type checked; those that
# are plain, as nearly all are, by redis_plain.pxi.

cdef object _envelope_wrong(str name, object value, str wanted):
    return DecodeError(f"envelope: {name} is a {type(value).__name__}, not {wanted}")


cdef object _optional_str(dict source, str name):
    cdef object value = source.get(name)
    if value is None or PyUnicode_CheckExact(value):
        return value
    raise _envelope_wrong(name, value, "a string")


cdef object _optional_dict(dict source, str name):
    cdef object value = source.get(name)
    if value is None or PyDict_CheckExact(value):
        return value
    raise _envelope_wrong(name, value, "an object")


cdef bytes _envelope_body(dict envelope, dict properties):
    cdef object body = envelope.get("body")
    cdef object encoding = _optional_str(properties, "body_encoding")
    cdef Py_ssize_t size = 0
    cdef const char* text
    if body is None:
        return b""
    if not PyUnicode_CheckExact(body):
        raise _envelope_wrong("body", body, "a string")
    if encoding is None or encoding == "" or encoding.lower() == "utf-8":
        try:
            return (<str> body).encode("utf-8")
        except UnicodeEncodeError:
            raise DecodeError("envelope: the body has a lone surrogate") from None
    if encoding != "base64":
        raise DecodeError(f"envelope: unknown body_encoding {encoding[:40]!r}")
    if not PyUnicode_IS_COMPACT_ASCII(body):
        raise DecodeError("envelope: the body is not base64")
    text = PyUnicode_AsUTF8AndSize(body, &size)
    return _decoded_base64(<const uint8_t*> text, size)


# Properties that are strings; those that are integers. Others are the publisher's own and stay as they are.
cdef frozenset _TEXT_PROPERTIES = frozenset((
    "correlation_id", "reply_to", "expiration", "message_id", "type", "user_id", "app_id", "cluster_id",
))
cdef frozenset _NUMBER_PROPERTIES = frozenset(("delivery_mode", "priority", "timestamp"))
cdef frozenset _OWN_PROPERTIES = frozenset(("body_encoding", "delivery_info", "delivery_tag"))


cdef dict _basic_properties(dict properties):
    cdef dict basic = {}
    for name, value in properties.items():
        if value is None or name in _OWN_PROPERTIES:
            continue
        if name in _TEXT_PROPERTIES:
            if name == "expiration" and PyLong_CheckExact(value):
                value = str(value)
            if not PyUnicode_CheckExact(value):
                raise _envelope_wrong(name, value, "a string")
        elif name in _NUMBER_PROPERTIES and not PyLong_CheckExact(value):
            raise _envelope_wrong(name, value, "an integer")
        basic[name] = value
    return basic


cpdef Delivery decode_envelope(object data):
    """A Delivery from an envelope; a missing delivery_info gives an empty exchange and routing key.

    Raises DecodeError when it is bad JSON, lacks its delivery tag, or anything in it has the wrong type.
    """
    cdef Delivery delivery
    if PyBytes_CheckExact(data):
        delivery = _plain_envelope(data)
        if delivery is not None:
            return delivery
    return _any_envelope(json_decode(data))


cdef Delivery _any_envelope(object envelope):
    cdef object properties
    cdef object info
    cdef object headers
    cdef object tag
    cdef Delivery delivery = Delivery.__new__(Delivery)
    if not PyDict_CheckExact(envelope):
        raise DecodeError("envelope: not a JSON object")
    properties = _optional_dict(envelope, "properties")
    if properties is None:
        raise DecodeError("envelope: it has no properties")
    tag = _optional_str(properties, "delivery_tag")
    if tag is None:
        raise DecodeError("envelope: it has no delivery_tag")
    info = _optional_dict(properties, "delivery_info") or {}
    headers = _optional_dict(envelope, "headers") or {}
    delivery._body = _envelope_body(envelope, properties)
    delivery.tag = tag
    delivery.epoch = 0
    delivery.queue = ""
    delivery.consumer_tag = ""
    delivery.exchange = _optional_str(info, "exchange") or ""
    delivery.routing_key = _optional_str(info, "routing_key") or ""
    delivery.redelivered = bool(info.get("redelivered")) or headers.get("redelivered") is True
    delivery._content_type = _optional_str(envelope, "content-type")
    delivery._content_encoding = _optional_str(envelope, "content-encoding")
    delivery._headers = headers
    delivery._properties = _basic_properties(properties)
    return delivery
