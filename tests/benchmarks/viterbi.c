/* mark_code.decode for sixteen readings at a time, with 16-bit metrics (AVX2); built and called by watermark.py. */
#include <immintrin.h>
#include <stdint.h>

/* Twice around the trellis. gains [steps][64][16], numbers [half], metrics [2][2 half][16], choices [2 steps][half].
   Returns which of the two metrics is the last. */
int passes(const int16_t *gains, const int32_t *numbers, int16_t *metrics, uint32_t *choices, int steps, int half) {
    int16_t *from = metrics, *into = metrics + 32 * half;
    for (int step = 0; step < 2 * steps; step++) {
        const int16_t *gain = gains + step % steps * 64 * 16;
        for (int i = 0; i < half; i++) {
            __m256i low = _mm256_loadu_si256((void *)(from + i * 16));
            __m256i high = _mm256_loadu_si256((void *)(from + (half + i) * 16));
            __m256i more = _mm256_loadu_si256((void *)(gain + numbers[i] * 16));
            __m256i a = _mm256_add_epi16(low, more), b = _mm256_sub_epi16(high, more);
            __m256i c = _mm256_sub_epi16(low, more), d = _mm256_add_epi16(high, more);
            _mm256_storeu_si256((void *)(into + 2 * i * 16), _mm256_max_epi16(a, b));
            _mm256_storeu_si256((void *)(into + 2 * i * 16 + 16), _mm256_max_epi16(c, d));
            __m256i both = _mm256_packs_epi16(_mm256_cmpgt_epi16(b, a), _mm256_cmpgt_epi16(d, c));
            *choices++ = _mm256_movemask_epi8(both);
        }
        int16_t *last = into;
        into = from;
        from = last;
    }
    return from != metrics;
}

/* The bits [steps] of one reading along its best path, which ends in a state. */
void back(const uint32_t *choices, int steps, int half, int reading, int state, uint8_t *bits) {
    int place = reading < 8 ? reading : reading + 8;
    for (int step = 2 * steps - 1; step >= 0; step--) {
        if (step >= steps / 2 && step < steps / 2 + steps) bits[step % steps] = state & 1;
        int upper = choices[(long)step * half + state / 2] >> (place + state % 2 * 8) & 1;
        state = state / 2 + upper * (half);
    }
}
