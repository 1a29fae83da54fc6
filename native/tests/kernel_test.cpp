// Every kernel of every instruction set that this machine runs, against a loop over bits or edges, on awkward shapes.
//
// Buffers end where a page without access begins, so that an access past any of them ends the program. Results are
// surrounded by a pattern, which must survive. Exit code 1 on the first difference.
//
//     kernel_test [N]      every N-th shape only (an emulated processor is slow)
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <limits>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "dispatch.hpp"

namespace {

using namespace o3bnn;

constexpr std::size_t kChannels[] = {1, 3, 15, 16, 17, 31, 33, 63, 64, 65, 97, 127, 128, 129, 130};
constexpr std::size_t kEveryWords = 80;
constexpr Word kPattern = 0xa5c3a5c3a5c3a5c3u;

std::mt19937_64 generator(20);
std::size_t every = 1, shapes = 0;
char current[128] = "";  // what runs, for the signal handler

std::size_t random_below(std::size_t limit) { return generator() % limit; }
bool selected() { return shapes++ % every == 0; }

[[noreturn]] void fail(const std::string& what) {
    std::printf("FAILED %s: %s\n", current, what.c_str());
    std::exit(1);
}

void on_fault(int) {
    const char text[] = "FAILED: access outside of a buffer in ";
    if (write(1, text, sizeof text - 1) < 0 || write(1, current, std::strlen(current)) < 0 || write(1, "\n", 1) < 0) _exit(2);
    _exit(1);
}

/// Memory between two pages without access. Objects are placed at its end.
class Buffer {
  public:
    Buffer() {
        const auto page = static_cast<std::size_t>(sysconf(_SC_PAGESIZE));
        void* memory = mmap(nullptr, kSize + 2 * page, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
        if (memory == MAP_FAILED) fail("no memory");
        start_ = static_cast<char*>(memory) + page;
        if (mprotect(start_, kSize, PROT_READ | PROT_WRITE) != 0) fail("no guard page");
    }

    template <class T>
    T* place(std::size_t count) {
        if (count * sizeof(T) > kSize) fail("a buffer is too small for the test");
        return reinterpret_cast<T*>(start_ + kSize - count * sizeof(T));
    }

    template <class T>
    T* place(const std::vector<T>& values) {
        T* at = place<T>(values.size());
        std::copy(values.begin(), values.end(), at);
        return at;
    }

  private:
    static constexpr std::size_t kSize = std::size_t{1} << 25;
    char* start_;
};

/// Result words between patterns: kMargin words before, a guard page behind.
class Results {
  public:
    Word* prepare(std::size_t words) {
        words_ = words;
        begin_ = buffer_.place<Word>(words + kMargin);
        std::fill_n(begin_, words + kMargin, kPattern);
        return begin_ + kMargin;
    }

    void expect(const std::vector<Word>& wanted, const std::string& where) const {
        if (std::count(begin_, begin_ + kMargin, kPattern) != kMargin) fail(where + ": written before the result");
        if (!std::equal(wanted.begin(), wanted.end(), begin_ + kMargin, begin_ + kMargin + words_)) fail(where + ": wrong bits");
    }

  private:
    static constexpr std::size_t kMargin = 8;
    Buffer buffer_;
    Word* begin_ = nullptr;
    std::size_t words_ = 0;
};

struct Memory {
    Buffer patches[kMaxTile], limits[kMaxTile], blocks, rows, sums;
    Results results[kMaxTile];
};

Memory& memory() {
    static const auto instance = std::make_unique<Memory>();
    return *instance;
}

std::vector<Word> random_words(std::size_t count) {
    std::vector<Word> words(count);
    for (Word& word : words) word = generator();
    return words;
}

std::int32_t naive_mismatches(const Word* a, const Word* b, std::size_t begin, std::size_t end) {
    std::int32_t count = 0;
    for (std::size_t word = begin; word < end; ++word) {
        for (std::size_t bit = 0; bit < kWordBits; ++bit) count += static_cast<std::int32_t>((a[word] >> bit ^ b[word] >> bit) & 1);
    }
    return count;
}

/// A threshold or limit that tells `value` from its neighbours, or an extreme one.
std::int32_t near(std::int32_t value) {
    constexpr std::int32_t kFixed[] = {std::numeric_limits<std::int32_t>::min(), std::numeric_limits<std::int32_t>::max(), -1, 0, 1};
    const std::size_t choice = random_below(16);
    if (choice < std::size(kFixed)) return kFixed[choice];
    return value + static_cast<std::int32_t>(choice % 3) - 1;
}

/// A binary stage's operands, and the mismatches of every patch and channel over words begin .. end - 1.
struct BinaryCase {
    std::size_t words, channels, begin, end;
    std::vector<Word> rows, patches;
    std::vector<std::int32_t> mismatches, limits;  // [kMaxTile][channels]

    BinaryCase(std::size_t words_, std::size_t channels_, std::size_t begin_, std::size_t end_)
        : words(words_), channels(channels_), begin(begin_), end(end_), rows(random_words(words_ * channels_)),
          patches(random_words(words_ * kMaxTile)) {
        for (std::size_t word = 0; word < words; ++word) {  // extremes: all edges agree, none does
            patches[word] = rows[word];
            patches[words + word] = ~rows[word];
            patches[2 * words + word] = 0;
        }
        for (std::size_t patch = 0; patch < kMaxTile; ++patch) {
            for (std::size_t c = 0; c < channels; ++c)
                mismatches.push_back(naive_mismatches(patches.data() + patch * words, rows.data() + c * words, begin, end));
        }
        for (const std::int32_t m : mismatches) limits.push_back(near(m));
    }

    std::vector<Word> wanted(std::size_t patch) const {
        std::vector<Word> bits(word_count(channels), 0);
        for (std::size_t c = 0; c < channels; ++c)
            bits[c / kWordBits] |= Word{mismatches[patch * channels + c] <= limits[patch * channels + c]} << (c % kWordBits);
        return bits;
    }

    std::vector<Word> blocks(const BinaryKernel& kernel) const {
        std::vector<Word> out(round_up(channels, kernel.lanes) * words, 0);
        if (kernel.pack) {
            kernel.pack(memory().rows.place(rows), channels, words, out.data());
            return out;
        }
        for (std::size_t c = 0; c < channels; ++c) {
            for (std::size_t word = 0; word < words; ++word)
                out[c / kernel.lanes * kernel.lanes * words + word * kernel.lanes + c % kernel.lanes] = rows[c * words + word];
        }
        return out;
    }

    /// Patches first .. first + count - 1.
    void check(const BinaryKernel& kernel, const Word* packed, std::size_t first, std::size_t count) const {
        BinaryTile tiles[kMaxTile];
        for (std::size_t i = 0; i < count; ++i) {
            const std::size_t patch = first + i;
            Word* bits = memory().patches[i].place<Word>(words);
            std::copy_n(patches.data() + patch * words, words, bits);
            auto* bounds = memory().limits[i].place<std::int32_t>(round_up(channels, kernel.lanes));
            std::fill(std::copy_n(limits.data() + patch * channels, channels, bounds), bounds + round_up(channels, kernel.lanes), -1);
            tiles[i] = {bits, bounds, memory().results[i].prepare(word_count(channels))};
        }
        std::snprintf(current, sizeof current, "%s: %zu channels, words %zu to %zu of %zu, %zu patches", kernel.name, channels, begin,
                      end, words, count);
        kernel.dense({tiles, count, packed, words, begin, end, channels});
        for (std::size_t i = 0; i < count; ++i) memory().results[i].expect(wanted(first + i), "patch " + std::to_string(first + i));
    }

    void check(const std::vector<const Isa*>& isas, bool every_count) const {
        for (const Isa* isa : isas) {
            const BinaryKernel& kernel = *isa->binary;
            const Word* packed = memory().blocks.place(blocks(kernel));
            for (std::size_t count = 1; count <= kernel.tile; ++count) {
                if (every_count || count <= 3 || count == kernel.tile)
                    check(kernel, packed, random_below(kMaxTile - count + 1), count);
            }
        }
    }
};

void test_bits(const std::vector<const Isa*>& isas) {
    for (std::size_t words = 1; words <= kEveryWords; ++words) {
        for (const std::size_t channels : kChannels) {
            if (!selected()) continue;
            BinaryCase(words, channels, 0, words).check(isas, true);
            const std::size_t begin = random_below(words + 1);
            BinaryCase(words, channels, begin, begin + random_below(words - begin + 1)).check(isas, false);
        }
    }
    for (const std::size_t channels : {255, 256, 257, 300, 513}) {
        for (const std::size_t words : {1, 9, 16, 36}) {
            if (selected()) BinaryCase(words, channels, 0, words).check(isas, false);
        }
    }
    for (const std::size_t words : {1019, 1020, 1021, 1023, 1024, 1025, 2041}) {  // around counts of 65535
        if (selected()) BinaryCase(words, 33, 0, words).check(isas, false);
        if (selected()) BinaryCase(words, 5, 7, words).check(isas, false);
    }
}

struct IntegerCase {
    std::size_t edges, stride, channels;
    std::int32_t magnitude;
    std::vector<std::int16_t> patches;  // [kMaxTile][stride]
    std::vector<std::int8_t> signs;     // [channels][edges]
    std::vector<std::int32_t> sums, thresholds;

    IntegerCase(std::size_t edges_, std::size_t channels_, std::int32_t magnitude_)
        : edges(edges_), stride(round_up(edges_, kIntegerStep)), channels(channels_), magnitude(magnitude_),
          patches(kMaxTile * stride, 0), signs(channels_ * edges_) {
        for (std::int8_t& sign : signs) sign = generator() & 1 ? 1 : -1;
        const std::int32_t greatest = std::min(magnitude, 32767), bound = magnitude * static_cast<std::int32_t>(edges);
        for (std::size_t patch = 0; patch < kMaxTile; ++patch) {
            for (std::size_t edge = 0; edge < edges; ++edge) {
                auto x = static_cast<std::int32_t>(random_below(static_cast<std::size_t>(greatest + magnitude + 1))) - magnitude;
                if (patch == 0) x = signs[edge] > 0 ? greatest : -magnitude;  // the greatest and the least sum
                if (patch == 1) x = signs[edge] > 0 ? -magnitude : greatest;
                patches[patch * stride + edge] = static_cast<std::int16_t>(x);
            }
            for (std::size_t c = 0; c < channels; ++c) {
                std::int32_t sum = 0;
                for (std::size_t edge = 0; edge < edges; ++edge) sum += patches[patch * stride + edge] * signs[c * edges + edge];
                sums.push_back(sum);
                thresholds.push_back(std::clamp(near(sum), -bound, bound + 1));  // as in a validated network
            }
        }
    }

    std::vector<std::int16_t> blocks(std::size_t lanes) const {
        std::vector<std::int16_t> out(round_up(channels, lanes) * edges, 0);
        for (std::size_t c = 0; c < channels; ++c) {
            for (std::size_t edge = 0; edge < edges; ++edge)
                out[c / lanes * lanes * edges + edge * lanes + c % lanes] = signs[c * edges + edge];
        }
        return out;
    }

    void check(const IntegerKernel& kernel, const std::int16_t* packed, std::size_t first, std::size_t count) const {
        IntegerTile tiles[kMaxTile];
        for (std::size_t i = 0; i < count; ++i) {
            auto* values = memory().patches[i].place<std::int16_t>(stride);
            std::copy_n(patches.data() + (first + i) * stride, stride, values);
            auto* bounds = memory().limits[i].place<std::int32_t>(channels);
            std::copy_n(thresholds.data() + (first + i) * channels, channels, bounds);
            tiles[i] = {values, bounds, memory().results[i].prepare(word_count(channels))};
        }
        std::snprintf(current, sizeof current, "%s: %zu channels, %zu edges, magnitude %d, %zu patches", kernel.name, channels,
                      edges, magnitude, count);
        kernel.dense({tiles, count, packed, edges, channels, magnitude});
        for (std::size_t i = 0; i < count; ++i) {
            std::vector<Word> wanted(word_count(channels), 0);
            for (std::size_t c = 0; c < channels; ++c) {
                const std::size_t at = (first + i) * channels + c;
                wanted[c / kWordBits] |= Word{sums[at] >= thresholds[at]} << (c % kWordBits);
            }
            memory().results[i].expect(wanted, "patch " + std::to_string(first + i));
        }
    }
};

void test_integers(const std::vector<const Isa*>& isas) {
    for (const std::size_t edges : {1, 2, 3, 15, 16, 17, 27, 32, 33, 64, 75, 128, 129, 147, 300}) {
        for (const std::int32_t magnitude : {0, 1, 2, 127, 255, 1000, 16384, 32767, 32768}) {
            for (const std::size_t channels : kChannels) {
                if (!selected()) continue;
                const IntegerCase task(edges, channels, magnitude);
                for (const Isa* isa : isas) {
                    const IntegerKernel& kernel = *isa->integer;
                    const std::int16_t* packed = memory().blocks.place(task.blocks(kernel.lanes));
                    for (const std::size_t count : {std::size_t{1}, std::size_t{2}, std::size_t{3}, std::size_t{4}, kernel.tile}) {
                        if (count <= kernel.tile) task.check(kernel, packed, random_below(kMaxTile - count + 1), count);
                    }
                }
            }
        }
    }
}

void test_output(const std::vector<const Isa*>& isas) {
    for (std::size_t words = 1; words <= kEveryWords; ++words) {
        for (const std::size_t classes : {1, 2, 3, 10, 97}) {
            if (!selected()) continue;
            const BinaryCase task(words, classes, 0, words);
            const auto fan_in = static_cast<std::int32_t>(words * kWordBits - random_below(kWordBits));
            for (const Isa* isa : isas) {
                std::snprintf(current, sizeof current, "%s: %zu classes, %zu words", isa->output->name, classes, words);
                const Word* rows = memory().rows.place(task.rows);
                for (std::size_t patch = 0; patch < 4; ++patch) {
                    Word* bits = memory().patches[0].place<Word>(words);
                    std::copy_n(task.patches.data() + patch * words, words, bits);
                    auto* sums = memory().sums.place<std::int32_t>(classes);
                    isa->output->sums(bits, rows, words, fan_in, classes, sums);
                    for (std::size_t c = 0; c < classes; ++c) {
                        if (sums[c] != fan_in - 2 * task.mismatches[patch * classes + c]) fail("class " + std::to_string(c));
                    }
                }
            }
        }
    }
}

}  // namespace

int main(int argc, char** argv) {
    if (argc > 1) every = std::max(std::strtoul(argv[1], nullptr, 10), 1ul);
    struct sigaction action = {};
    action.sa_handler = on_fault;
    sigaction(SIGSEGV, &action, nullptr);
    sigaction(SIGBUS, &action, nullptr);
    std::vector<const Isa*> isas;
    for (const std::string& name : available_isas()) {
        isas.push_back(&find_isa(name));
        std::printf("%s: %s, %s, %s\n", name.c_str(), isas.back()->binary->name, isas.back()->integer->name, isas.back()->output->name);
    }
    test_bits(isas);
    test_integers(isas);
    test_output(isas);
    std::printf("%zu shapes agree\n", (shapes + every - 1) / every);
}
