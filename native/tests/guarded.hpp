// Memory between pages without access, and random operands: what the kernel tests share.
#pragma once

#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <limits>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "dispatch.hpp"

namespace o3bnn::testing {

inline constexpr std::size_t kChannels[] = {1, 3, 15, 16, 17, 31, 33, 63, 64, 65, 97, 127, 128, 129, 130};
inline constexpr std::size_t kEveryWords = 80;
inline constexpr Word kPattern = 0xa5c3a5c3a5c3a5c3u;

inline std::mt19937_64 generator(20);
inline std::size_t every = 1, shapes = 0;
inline char current[128] = "";  // what runs, for the signal handler

inline std::size_t random_below(std::size_t limit) { return generator() % limit; }
inline bool selected() { return shapes++ % every == 0; }

[[noreturn]] inline void fail(const std::string& what) {
    std::printf("FAILED %s: %s\n", current, what.c_str());
    std::exit(1);
}

/// Memory between two pages without access. Objects are placed at its end.
class Buffer {
  public:
    explicit Buffer(std::size_t size = std::size_t{1} << 25) : size_(size) {
        const auto page = static_cast<std::size_t>(sysconf(_SC_PAGESIZE));
        void* memory = mmap(nullptr, size + 2 * page, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
        if (memory == MAP_FAILED) fail("no memory");
        start_ = static_cast<char*>(memory) + page;
        if (mprotect(start_, size, PROT_READ | PROT_WRITE) != 0) fail("no guard page");
    }

    template <class T>
    T* place(std::size_t count) {
        if (count * sizeof(T) > size_) fail("a buffer is too small for the test");
        return reinterpret_cast<T*>(start_ + size_ - count * sizeof(T));
    }

    template <class T>
    T* place(const std::vector<T>& values) {
        T* at = place<T>(values.size());
        std::copy(values.begin(), values.end(), at);
        return at;
    }

  private:
    std::size_t size_;
    char* start_;
};

/// For one patch, or the limits of one.
struct SmallBuffer : Buffer {
    SmallBuffer() : Buffer(std::size_t{1} << 16) {}
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
        if (!std::equal(wanted.begin(), wanted.end(), begin_ + kMargin, begin_ + kMargin + words_))
            fail(where + ": wrong bits");
    }

  private:
    static constexpr std::size_t kMargin = 8;
    SmallBuffer buffer_;
    Word* begin_ = nullptr;
    std::size_t words_ = 0;
};

inline constexpr std::size_t kMaxPositions = 9;  ///< of a pooling window

struct Memory {
    SmallBuffer patches[kMaxPositions * kMaxTile], limits[kMaxPositions * kMaxTile],
        narrow[kMaxPositions * kMaxTile];
    Buffer blocks, rows, sums;
    Results results[kMaxTile];
};

inline Memory& memory() {
    static const auto instance = std::make_unique<Memory>();
    return *instance;
}

inline std::vector<Word> random_words(std::size_t count) {
    std::vector<Word> words(count);
    for (Word& word : words) word = generator();
    return words;
}

inline std::int32_t naive_mismatches(const Word* a, const Word* b, std::size_t begin, std::size_t end) {
    std::int32_t count = 0;
    for (std::size_t word = begin; word < end; ++word) {
        for (std::size_t bit = 0; bit < kWordBits; ++bit)
            count += static_cast<std::int32_t>((a[word] >> bit ^ b[word] >> bit) & 1);
    }
    return count;
}

/// Runs of words for the patches of a call: three patches have the first list, three the second, and so on.
struct RunLists {
    const std::vector<std::vector<WordRange>> lists;
    std::vector<WordRuns> runs;

    explicit RunLists(std::vector<std::vector<WordRange>> lists_) : lists(std::move(lists_)) {
        for (const std::vector<WordRange>& list : lists) runs.push_back({list.data(), list.size()});
    }
    RunLists(const RunLists&) = delete;

    const WordRuns& of(std::size_t patch) const { return runs[patch / 3 % runs.size()]; }
    bool has(std::size_t patch, std::size_t word) const {
        const std::vector<WordRange>& list = lists[patch / 3 % lists.size()];
        return std::any_of(list.begin(), list.end(),
                           [&](const WordRange& run) { return run.begin <= word && word < run.end; });
    }
};

/// Some of the words 0 .. words - 1, in steps of `step`; one step at least.
inline std::vector<WordRange> random_runs(std::size_t words, std::size_t step) {
    std::vector<WordRange> runs;
    while (runs.empty()) {
        for (std::size_t begin = 0; begin < words; begin += step) {
            const std::size_t end = std::min(begin + step, words);
            if (random_below(3) == 0) continue;
            if (!runs.empty() && runs.back().end == begin)
                runs.back().end = end;
            else
                runs.push_back({begin, end});
        }
    }
    return runs;
}

inline std::int32_t naive_mismatches(const Word* a, const Word* b, const WordRuns& runs) {
    std::int32_t count = 0;
    for (std::size_t run = 0; run < runs.count; ++run)
        count += naive_mismatches(a, b, runs.first[run].begin, runs.first[run].end);
    return count;
}

/// A threshold or limit that tells `value` from its neighbours, or an extreme one.
inline std::int32_t near(std::int32_t value) {
    constexpr std::int32_t kFixed[] = {std::numeric_limits<std::int32_t>::min(),
                                       std::numeric_limits<std::int32_t>::max(), -1, 0, 1};
    const std::size_t choice = random_below(16);
    if (choice < std::size(kFixed)) return kFixed[choice];
    return value + static_cast<std::int32_t>(choice % 3) - 1;
}

/// A kernel's weight blocks of some rows [channels][words], which lie in front of a guard page.
inline const Word* place_blocks(const BinaryKernel& kernel, const std::vector<Word>& rows, std::size_t channels,
                                std::size_t words) {
    std::vector<Word> out(round_up(channels, kernel.lanes) * words, 0);
    if (kernel.pack) {
        kernel.pack(memory().rows.place(rows), channels, words, out.data());
    } else {
        for (std::size_t c = 0; c < channels; ++c) {
            for (std::size_t word = 0; word < words; ++word)
                out[c / kernel.lanes * kernel.lanes * words + word * kernel.lanes + c % kernel.lanes] =
                    rows[c * words + word];
        }
    }
    return memory().blocks.place(out);
}

using Isas = std::vector<const Isa*>;

void test_bits(const Isas& isas);
void test_exits(const Isas& isas);
void test_pools(const Isas& isas);
void test_integers(const Isas& isas);
void test_octets(const Isas& isas);
void test_tables(const Isas& isas);
void test_output(const Isas& isas);

}  // namespace o3bnn::testing
