# Base64 (RFC 4648 section 4) at the speed of memory: what kombu's envelopes keep a body in.
#
# AVX2 where the compiler knows it and the processor has it, 24 bytes a step; elsewhere, and for the rest, a
# table and three bytes a step. The vectors' arithmetic is that of W. Muła and D. Lemire, "Faster Base64
# Encoding and Decoding Using AVX2 Instructions", https://arxiv.org/abs/1704.00605. They stop at the first
# byte that is none of the alphabet's, and leave it to the table to say so.

cdef extern from *:
    """
    #if defined(__GNUC__) && defined(__x86_64__)
    #include <immintrin.h>
    #define ENGINE_AVX2 __attribute__((target("avx2")))

    /* Encodes 24 bytes a step; how many bytes were. Writes no more than their text. */
    ENGINE_AVX2 static size_t engine_base64_encode_avx2(const uint8_t *at, size_t size, char *target)
    {
        const __m256i order = _mm256_setr_epi8(
            1, 0, 2, 1, 4, 3, 5, 4, 7, 6, 8, 7, 10, 9, 11, 10,
            1, 0, 2, 1, 4, 3, 5, 4, 7, 6, 8, 7, 10, 9, 11, 10);
        const __m256i shift = _mm256_setr_epi8(
            65, 71, -4, -4, -4, -4, -4, -4, -4, -4, -4, -4, -19, -16, 0, 0,
            65, 71, -4, -4, -4, -4, -4, -4, -4, -4, -4, -4, -19, -16, 0, 0);
        size_t done = 0;
        while (size - done >= 32) {
            const __m128i low = _mm_loadu_si128((const __m128i *)(at + done));
            const __m128i high = _mm_loadu_si128((const __m128i *)(at + done + 12));
            __m256i in = _mm256_inserti128_si256(_mm256_castsi128_si256(low), high, 1);
            in = _mm256_shuffle_epi8(in, order);
            const __m256i even = _mm256_mulhi_epu16(
                _mm256_and_si256(in, _mm256_set1_epi32(0x0fc0fc00)), _mm256_set1_epi32(0x04000040));
            const __m256i odd = _mm256_mullo_epi16(
                _mm256_and_si256(in, _mm256_set1_epi32(0x003f03f0)), _mm256_set1_epi32(0x01000010));
            const __m256i sextets = _mm256_or_si256(even, odd);
            __m256i kind = _mm256_subs_epu8(sextets, _mm256_set1_epi8(51));
            kind = _mm256_sub_epi8(kind, _mm256_cmpgt_epi8(sextets, _mm256_set1_epi8(25)));
            _mm256_storeu_si256(
                (__m256i *)target, _mm256_add_epi8(sextets, _mm256_shuffle_epi8(shift, kind)));
            done += 24;
            target += 32;
        }
        return done;
    }

    /* Decodes 32 characters a step; how many were. Writes 32 bytes a step, of which 24 count. */
    ENGINE_AVX2 static size_t engine_base64_decode_avx2(const uint8_t *at, size_t size, uint8_t *target)
    {
        const __m256i low_kinds = _mm256_setr_epi8(
            0x15, 0x11, 0x11, 0x11, 0x11, 0x11, 0x11, 0x11, 0x11, 0x11, 0x13, 0x1a, 0x1b, 0x1b, 0x1b, 0x1a,
            0x15, 0x11, 0x11, 0x11, 0x11, 0x11, 0x11, 0x11, 0x11, 0x11, 0x13, 0x1a, 0x1b, 0x1b, 0x1b, 0x1a);
        const __m256i high_kinds = _mm256_setr_epi8(
            0x10, 0x10, 0x01, 0x02, 0x04, 0x08, 0x04, 0x08, 0x10, 0x10, 0x10, 0x10, 0x10, 0x10, 0x10, 0x10,
            0x10, 0x10, 0x01, 0x02, 0x04, 0x08, 0x04, 0x08, 0x10, 0x10, 0x10, 0x10, 0x10, 0x10, 0x10, 0x10);
        const __m256i shift = _mm256_setr_epi8(
            0, 16, 19, 4, -65, -65, -71, -71, 0, 0, 0, 0, 0, 0, 0, 0,
            0, 16, 19, 4, -65, -65, -71, -71, 0, 0, 0, 0, 0, 0, 0, 0);
        const __m256i order = _mm256_setr_epi8(
            2, 1, 0, 6, 5, 4, 10, 9, 8, 14, 13, 12, -1, -1, -1, -1,
            2, 1, 0, 6, 5, 4, 10, 9, 8, 14, 13, 12, -1, -1, -1, -1);
        const __m256i slash = _mm256_set1_epi8(0x2f);
        size_t done = 0;
        while (size - done >= 48) { /* so that the target has room for the surplus too */
            __m256i in = _mm256_loadu_si256((const __m256i *)(at + done));
            const __m256i high = _mm256_and_si256(_mm256_srli_epi32(in, 4), slash);
            const __m256i low = _mm256_and_si256(in, slash);
            if (!_mm256_testz_si256(
                    _mm256_shuffle_epi8(low_kinds, low), _mm256_shuffle_epi8(high_kinds, high)))
                break;
            const __m256i is_slash = _mm256_cmpeq_epi8(in, slash);
            in = _mm256_add_epi8(in, _mm256_shuffle_epi8(shift, _mm256_add_epi8(is_slash, high)));
            in = _mm256_maddubs_epi16(in, _mm256_set1_epi32(0x01400140));
            in = _mm256_madd_epi16(in, _mm256_set1_epi32(0x00011000));
            in = _mm256_shuffle_epi8(in, order);
            in = _mm256_permutevar8x32_epi32(in, _mm256_setr_epi32(0, 1, 2, 4, 5, 6, 7, 7));
            _mm256_storeu_si256((__m256i *)target, in);
            done += 32;
            target += 24;
        }
        return done;
    }

    static size_t engine_base64_encode(const uint8_t *at, size_t size, char *target)
    {
        return __builtin_cpu_supports("avx2") ? engine_base64_encode_avx2(at, size, target) : 0;
    }
    static size_t engine_base64_decode(const uint8_t *at, size_t size, uint8_t *target)
    {
        return __builtin_cpu_supports("avx2") ? engine_base64_decode_avx2(at, size, target) : 0;
    }
    #else
    static size_t engine_base64_encode(const uint8_t *at, size_t size, char *target)
    {
        (void)at; (void)size; (void)target;
        return 0;
    }
    static size_t engine_base64_decode(const uint8_t *at, size_t size, uint8_t *target)
    {
        (void)at; (void)size; (void)target;
        return 0;
    }
    #endif
    """
    size_t engine_base64_encode(const uint8_t* at, size_t size, char* target) noexcept nogil
    size_t engine_base64_decode(const uint8_t* at, size_t size, uint8_t* target) noexcept nogil

cdef const char* _BASE64 = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"

cdef uint8_t[256] _sextet  # a base64 character's value; 255: not one
memset(_sextet, 255, 256)
for _digit in range(64):
    _sextet[<uint8_t> _BASE64[_digit]] = _digit


cdef char* _put_base64(char* at, const uint8_t* data, Py_ssize_t size) noexcept nogil:
    """The text of the data, padding included; where it ends."""
    cdef uint32_t group
    cdef size_t done = engine_base64_encode(data, size, at)
    data += done
    size -= done
    at += done // 3 * 4
    while size >= 3:
        group = (<uint32_t> data[0] << 16) | (<uint32_t> data[1] << 8) | data[2]
        at[0] = _BASE64[group >> 18]
        at[1] = _BASE64[(group >> 12) & 63]
        at[2] = _BASE64[(group >> 6) & 63]
        at[3] = _BASE64[group & 63]
        at += 4
        data += 3
        size -= 3
    if size:
        group = <uint32_t> data[0] << 16
        if size == 2:
            group |= <uint32_t> data[1] << 8
        at[0] = _BASE64[group >> 18]
        at[1] = _BASE64[(group >> 12) & 63]
        at[2] = _BASE64[(group >> 6) & 63] if size == 2 else c'='
        at[3] = c'='
        at += 4
    return at


cdef bytes _decoded_base64(const uint8_t* text, Py_ssize_t size):
    """Strict, padding included."""
    cdef Py_ssize_t padding = 0
    cdef Py_ssize_t index
    cdef size_t done
    cdef uint8_t a, b, c, d
    cdef uint8_t* at
    cdef bytes data
    if size % 4:
        raise DecodeError("envelope: the body is not base64 (its length is no multiple of four)")
    while padding < 2 and padding < size and text[size - 1 - padding] == c'=':
        padding += 1
    data = PyBytes_FromStringAndSize(NULL, size // 4 * 3 - padding)
    at = <uint8_t*> PyBytes_AS_STRING(data)
    done = engine_base64_decode(text, size, at)
    at += done // 4 * 3
    for index in range(done, size - 4 if padding else size, 4):
        a = _sextet[text[index]]
        b = _sextet[text[index + 1]]
        c = _sextet[text[index + 2]]
        d = _sextet[text[index + 3]]
        if (a | b | c | d) & 0xC0:
            raise DecodeError("envelope: the body is not base64")
        at[0] = <uint8_t> (a << 2 | b >> 4)
        at[1] = <uint8_t> (b << 4 | c >> 2)
        at[2] = <uint8_t> (c << 6 | d)
        at += 3
    if padding:
        a = _sextet[text[size - 4]]
        b = _sextet[text[size - 3]]
        c = 0 if padding == 2 else _sextet[text[size - 2]]
        if (a | b | c) & 0xC0:
            raise DecodeError("envelope: the body is not base64")
        at[0] = <uint8_t> (a << 2 | b >> 4)
        if padding == 1:
            at[1] = <uint8_t> (b << 4 | c >> 2)
    return data
