// AVX2: stages of bits. Register tiles and listed neurons look mismatches up; neurons that are walked word by word use
// the processor's popcount.
#include "kernels/avx2_lookup.hpp"
#include "kernels/neighbours.hpp"
#include "kernels/pool_rows.hpp"
#include "kernels/prune_popcnt.hpp"

namespace o3bnn {
namespace {

__m256i load_eight(const std::int32_t* values) { return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(values)); }
__m256i counted(const std::uint16_t* counts) {
    return _mm256_cvtepu16_epi32(_mm_load_si128(reinterpret_cast<const __m128i*>(counts)));
}

/// Vectors of channels of a share that are decided in all patches.
class ClosedChannels {
  public:
    bool at(std::size_t channel) const { return bits_ >> (channel / kLanes) & 1; }
    bool all(std::size_t channels) const { return bits_ + 1u == 1u << (channels / kLanes); }
    void close(std::size_t channel) { bits_ |= 1u << (channel / kLanes); }

    /// Vectors from `channel` on, `most` at most, that are open.
    std::size_t run(std::size_t channel, std::size_t most) const {
        std::size_t vectors = 0;
        while (vectors < most && !at(channel + vectors * kLanes)) ++vectors;
        return vectors;
    }

  private:
    unsigned bits_ = 0;
};

/// Channels `first` .. `first + channels - 1` of a call, kChannels at most.
struct Share {
    const BinaryDenseTask& task;
    Workspace& room;
    std::size_t first, channels;  ///< multiples of kLanes

    const WordRuns& runs() const { return *task.tiles->runs; }  // all have the same
    std::size_t begin() const { return runs().count ? runs().first[0].begin : 0; }
    std::size_t end() const { return runs().count ? runs().first[runs().count - 1].end : 0; }

    /// Adds the mismatches of one span of words to the counts; not for the channels that are closed.
    void add_span(std::size_t word, std::size_t words, const ClosedChannels& closed) const {
        for (std::size_t patch = 0; patch < task.count; patch += 2) {
            const Word* x = task.tiles[patch].patch + word;
            const Word* y = task.tiles[least(patch + 1, task.count - 1)].patch + word;
            pair_indices(x, y, words, room.indices[patch / 2]);
        }
        const std::size_t row = task.words * kOctetsOfWord, octets = words * kOctetsOfWord;
        for (std::size_t channel = 0; channel < channels;) {
            const __m256i* packed =
                reinterpret_cast<const __m256i*>(task.blocks) + (first + channel) / kLanes * row + word * kOctetsOfWord;
            const std::size_t vectors = closed.run(channel, least(kVectors, (channels - channel) / kLanes));
            if (vectors == 0) {
                channel += kLanes;
                continue;
            }
            for (std::size_t i = 0; i < octets; i += kChunk) {
                const Chunk chunk = {packed + i,
                                     row,
                                     room.weights[0],
                                     room.indices[0] + 2 * i,
                                     least(kChunk, octets - i),
                                     room.counts[0] + channel};
                add_chunk(chunk, vectors);
            }
            channel += vectors * kLanes;
        }
    }

    void add_chunk(const Chunk& chunk, std::size_t vectors) const {
        switch (vectors) {
            case 1: return accumulate_patches<1>(chunk, task.count);
            case 2: return accumulate_patches<2>(chunk, task.count);
            case 3: return accumulate_patches<3>(chunk, task.count);
            default: return accumulate_patches<4>(chunk, task.count);
        }
    }

    void clear_counts() const {
        for (std::size_t patch = 0; patch < task.count + task.count % 2; ++patch) {
            for (std::size_t c = 0; c < channels; ++c) room.counts[patch][c] = 0;
        }
    }

    void add_to_totals(bool overwrite) const {
        for (std::size_t patch = 0; patch < task.count; ++patch) {
            for (std::size_t c = 0; c < channels; ++c)
                room.totals[patch][c] = (overwrite ? 0 : room.totals[patch][c]) + room.counts[patch][c];
        }
    }

    /// The bits of one patch and kLanes channels from channel `c` of the share on.
    std::uint32_t fires(std::size_t patch, std::size_t c, bool totals) const {
        const std::int32_t* limits = task.tiles[patch].limits + first + c;
        std::uint32_t silent = 0;
        for (std::size_t i = 0; i < kLanes; i += 8) {
            const __m256i limit = load_eight(limits + i);
            const __m256i mismatches =
                totals ? _mm256_load_si256(reinterpret_cast<const __m256i*>(room.totals[patch] + c + i))
                       : counted(room.counts[patch] + c + i);
            const __m256i beyond = _mm256_cmpgt_epi32(mismatches, limit);
            silent |= static_cast<std::uint32_t>(_mm256_movemask_ps(_mm256_castsi256_ps(beyond))) << i;
        }
        return ~silent;
    }

    void run() const {
        const bool several = end() - begin() > kStretch;
        clear_counts();
        for (std::size_t start = begin(); start < end(); start += kStretch) {
            const std::size_t stop = least(start + kStretch, end());
            add_words(start, stop, {});
            if (!several) break;
            add_to_totals(start == begin());
            clear_counts();
        }
        for (std::size_t c = 0; c < channels; c += kLanes) write_bits(c, several);
    }

    /// The same with checks; the call has one stretch.
    void run_with(const ExitChecks& checks) const {
        ClosedChannels closed;
        clear_counts();
        std::size_t start = begin();
        for (std::size_t i = 0; i < checks.count; ++i) {
            if (checks.words[i] <= start || checks.words[i] >= end()) continue;
            add_words(start, checks.words[i], closed);
            start = checks.words[i];
            for (std::size_t c = 0; c < channels; c += kLanes) {
                if (closed.at(c) || !all_decided(c, checks, i)) continue;
                add_absent(c, checks, i);
                write_bits(c, false);
                closed.close(c);
            }
            if (closed.all(channels)) return;
        }
        add_words(start, end(), closed);
        for (std::size_t c = 0; c < channels; c += kLanes) {
            if (!closed.at(c)) write_bits(c, false);
        }
    }

    /// Those of the runs between words `from` and `to`.
    void add_words(std::size_t from, std::size_t to, const ClosedChannels& closed) const {
        for (std::size_t run = 0; run < runs().count; ++run) {
            const std::size_t first_word = most(runs().first[run].begin, from), stop = least(runs().first[run].end, to);
            for (std::size_t word = first_word; word < stop; word += kSpan)
                add_span(word, least(kSpan, stop - word), closed);
        }
    }

    void write_bits(std::size_t c, bool totals) const {
        for (std::size_t patch = 0; patch < task.count; ++patch)
            task.tiles[patch].fired[(first + c) / kWordBits] |= Word{fires(patch, c, totals)}
                                                                << ((first + c) % kWordBits);
    }

    /// Whether the edges behind a check change no bit of kLanes channels from `c` of the share on, in any patch.
    bool all_decided(std::size_t c, const ExitChecks& checks, std::size_t check) const {
        for (std::size_t patch = 0; patch < task.count; ++patch) {
            const std::int32_t rest = checks.tiles[patch].rest[check];
            const std::int32_t* absent = absent_of(patch, c, checks, check);
            const std::int32_t* limits = task.tiles[patch].limits + first + c;
            __m256i open = _mm256_setzero_si256();
            for (std::size_t i = 0; i < kLanes; i += 8) {
                __m256i left = _mm256_sub_epi32(load_eight(limits + i), counted(room.counts[patch] + c + i));
                if (absent) left = _mm256_sub_epi32(left, load_eight(absent + i));
                // Below zero: silent. From `rest` on: fires. Between: open.
                const __m256i below = _mm256_cmpgt_epi32(_mm256_set1_epi32(rest), left);
                open = _mm256_or_si256(open, _mm256_andnot_si256(_mm256_srai_epi32(left, 31), below));
            }
            if (!_mm256_testz_si256(open, open)) return false;
        }
        return true;
    }

    /// Counts the mismatches that are sure to come.
    void add_absent(std::size_t c, const ExitChecks& checks, std::size_t check) const {
        for (std::size_t patch = 0; patch < task.count; ++patch) {
            const std::int32_t* absent = absent_of(patch, c, checks, check);
            for (std::size_t i = 0; absent && i < kLanes; ++i)
                room.counts[patch][c + i] = static_cast<std::uint16_t>(room.counts[patch][c + i] + absent[i]);
        }
    }

    const std::int32_t* absent_of(std::size_t patch, std::size_t c, const ExitChecks& checks, std::size_t check) const {
        const std::int32_t* absent = checks.tiles[patch].absent;
        return absent ? absent + check * checks.stride + first + c : nullptr;
    }
};

/// Calls run(share, index of its first tile) for shares whose tiles have the same runs.
template <class Run>
void for_each_share(const BinaryDenseTask& task, Run run) {
    for (std::size_t patch = 0; patch < task.count; ++patch) {
        for (std::size_t word = 0; word < words_of(task.channels); ++word) task.tiles[patch].fired[word] = 0;
    }
    Workspace room;
    for (std::size_t tile = 0; tile < task.count;) {
        BinaryDenseTask some = task;
        some.tiles += tile;
        some.count = neighbours(task, tile);
        for (std::size_t first = 0; first < task.channels; first += kChannels) {
            const std::size_t left = (task.channels - first + kLanes - 1) / kLanes * kLanes;
            run(Share{some, room, first, least(kChannels, left)}, tile);
        }
        tile += some.count;
    }
}

void dense_bits(const BinaryDenseTask& task) {
    for_each_share(task, [](const Share& share, std::size_t) { share.run(); });
}

void exit_bits(const BinaryDenseTask& task, const ExitChecks& checks) {
    if (task.words > kStretch) return dense_bits(task);  // rare: counts are then in two places
    for_each_share(task, [&checks](const Share& share, std::size_t tile) {
        ExitChecks some = checks;
        some.tiles += tile;
        share.run_with(some);
    });
}

/// What PoolShare needs.
class Rows {
  public:
    static constexpr std::size_t kChannels = o3bnn::kChannels;
    static constexpr std::size_t kCost = 5;

    static void dense(const BinaryDenseTask& task) { dense_bits(task); }

    static PairMismatches mismatches(const Word* patch, const RowPair& rows, const WordRuns& runs) {
        constexpr std::size_t kVector = 4, kFlush = 31 * kVector;  // words; 31 counts of at most 8 fit an octet
        __m256i first = _mm256_setzero_si256(), second = first;
        for (std::size_t run = 0; run < runs.count; ++run) {
            for (std::size_t word = runs.first[run].begin; word < runs.first[run].end;) {
                __m256i first_octets = _mm256_setzero_si256(), second_octets = first_octets;
                for (const std::size_t stop = least(runs.first[run].end, word + kFlush); word < stop; word += kVector) {
                    const __m256i x = load_words(patch + word);
                    first_octets =
                        _mm256_add_epi8(first_octets, octet_ones(_mm256_xor_si256(x, load_words(rows.first + word))));
                    second_octets =
                        _mm256_add_epi8(second_octets, octet_ones(_mm256_xor_si256(x, load_words(rows.second + word))));
                }
                first = _mm256_add_epi64(first, _mm256_sad_epu8(first_octets, _mm256_setzero_si256()));
                second = _mm256_add_epi64(second, _mm256_sad_epu8(second_octets, _mm256_setzero_si256()));
            }
        }
        const __m256i both =
            _mm256_add_epi64(_mm256_unpacklo_epi64(first, second), _mm256_unpackhi_epi64(first, second));
        const __m128i sums = _mm_add_epi64(_mm256_castsi256_si128(both), _mm256_extracti128_si256(both, 1));
        return {_mm_cvtsi128_si32(sums), _mm_extract_epi32(sums, 2)};
    }

  private:
    static __m256i load_words(const Word* words) { return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(words)); }

    /// Ones of each octet, by looking up four bits at a time.
    static __m256i octet_ones(__m256i x) {
        const __m256i ones = _mm256_setr_epi8(0, 1, 1, 2, 1, 2, 2, 3, 1, 2, 2, 3, 2, 3, 3, 4,  //
                                              0, 1, 1, 2, 1, 2, 2, 3, 1, 2, 2, 3, 2, 3, 3, 4);
        return _mm256_add_epi8(_mm256_shuffle_epi8(ones, low_four(x)), _mm256_shuffle_epi8(ones, high_four(x)));
    }
};

/// Blocks of kLanes channels: [octets of a row][kLanes] octets. Octet 2c is channel c, octet 2c + 1 channel 16 + c, so
/// that the even and the odd octets of a vector are neighbouring channels each.
void pack_bits(const Word* rows, std::size_t channels, std::size_t words, Word* blocks) {
    auto* octets = reinterpret_cast<unsigned char*>(blocks);
    for (std::size_t channel = 0; channel < channels; ++channel) {
        const std::size_t lane = channel % kLanes;
        const std::size_t place = lane % 16 * 2 + lane / 16;
        unsigned char* block = octets + channel / kLanes * words * kOctetsOfWord * kLanes;
        for (std::size_t i = 0; i < words * kOctetsOfWord; ++i) {
            const Word word = rows[channel * words + i / kOctetsOfWord];
            block[i * kLanes + place] = static_cast<unsigned char>(word >> (i % kOctetsOfWord * 8));
        }
    }
}

void output_sums(const Word* bits, const Word* rows, std::size_t words, std::int32_t fan_in, std::size_t classes,
                 std::int32_t* sums) {
    for (std::size_t c = 0; c < classes; ++c, rows += words) {
        long long mismatches = 0;
        for (std::size_t word = 0; word < words; ++word) mismatches += _mm_popcnt_u64(bits[word] ^ rows[word]);
        sums[c] = fan_in - 2 * static_cast<std::int32_t>(mismatches);
    }
}

}  // namespace

constinit const BinaryKernel conv_b1_avx2 = {"conv_b1_avx2", kLanes,     kMaxTile,           dense_bits,
                                             exit_bits,      prune_bits, pool_by_rows<Rows>, pack_bits};
constinit const OutputKernel output_avx2 = {"output_avx2", output_sums};

}  // namespace o3bnn
