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
    #else
    static int engine_keep_heap(int from_heap, int kept)
    {
        (void)from_heap; (void)kept;
        return 0;
    }
    #endif
    """
    bint engine_keep_heap(int from_heap, int kept)


def keep_heap(int from_heap, int kept):
    """Blocks of up to ``from_heap`` bytes come from the heap, and ``kept`` bytes of it stay when they are
    freed. Whether the C library knows such settings."""
    return engine_keep_heap(from_heap, kept)
