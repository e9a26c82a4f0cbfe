# How the C library keeps its heap. glibc gives freed memory at the end of its heap back to the system at
# once, 128 KiB at a time, and gets it again, page fault by page fault, for the next body of that size.

cdef extern from *:
    """
    #include <stdlib.h>
    #ifdef __GLIBC__
    #include <malloc.h>
    static int engine_keep_heap(int from_heap, int kept)
    {
        return mallopt(M_MMAP_THRESHOLD, from_heap) && mallopt(M_TRIM_THRESHOLD, kept);
    }
    static int engine_trim_heap(void)
    {
        return malloc_trim(0);
    }
    #else
    static int engine_keep_heap(int from_heap, int kept)
    {
        (void)from_heap; (void)kept;
        return 0;
    }
    static int engine_trim_heap(void)
    {
        return 0;
    }
    #endif
    """
    bint engine_keep_heap(int from_heap, int kept)
    bint engine_trim_heap()


def keep_heap(int from_heap, int kept):
    """Blocks of up to ``from_heap`` bytes come from the heap, and ``kept`` bytes of it stay when they are
    freed. Whether the C library knows such settings."""
    return engine_keep_heap(from_heap, kept)


def trim_heap():
    """Give back what is free; whether there was any. Takes some 0.1 ms."""
    return engine_trim_heap()
