#include "accel/layer.hpp"

#include <algorithm>
#include <bit>
#include <cstdlib>

// Two versions of the hot function, with and without the popcnt instruction, chosen when the module is loaded.
#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__) && defined(__linux__)
#define POPCNT_CLONES __attribute__((target_clones("popcnt", "default")))
#else
#define POPCNT_CLONES
#endif

namespace o3bnn::accel {
namespace {

std::size_t at(int index) { return static_cast<std::size_t>(index); }

int popcount(const Word* words, int limbs) {
    int count = 0;
    for (int limb = 0; limb < limbs; ++limb) count += std::popcount(words[limb]);
    return count;
}

int popcount_masked(const Word* words, const Word* mask, int limbs) {
    int count = 0;
    for (int limb = 0; limb < limbs; ++limb) count += std::popcount(words[limb] & mask[limb]);
    return count;
}

/// Edges of one word that match; inlined, so that it takes its caller's instruction set.
[[gnu::always_inline]] inline int matches(const Word* x, const Word* w, const Word* exists, int limbs) {
    if (limbs == 1) return std::popcount(~(*x ^ *w) & *exists);
    int count = 0;
    for (int limb = 0; limb < limbs; ++limb) count += std::popcount(~(x[limb] ^ w[limb]) & exists[limb]);
    return count;
}

std::vector<std::uint8_t> read_by_windows(int size, int count, int pool, int stride) {
    std::vector<std::uint8_t> read(at(size), 0);
    for (int window = 0; window < count; ++window)
        for (int offset = 0; offset < pool; ++offset) read[at(window * stride + offset)] = 1;
    return read;
}

}  // namespace

Layer::Layer(const StagePlan& plan, const Config& config) : plan_(plan), config_(config) {
    const int limbs = config.limbs();
    const int classes = static_cast<int>(plan.exists.size()) / (plan.edge_words * limbs);
    for (int c = 0; c < classes; ++c) {
        Border border;
        std::vector<int> sizes;
        for (int k = 0; k < plan.edge_words; ++k) {
            const int size = popcount(&plan.exists[at((c * plan.edge_words + k) * limbs)], limbs);
            if (size > 0) {
                border.index.push_back(k);
                sizes.push_back(size);
            }
        }
        border.edges.push_back(0);
        std::vector<std::int64_t> weight{0};
        for (int plane = plan.planes - 1; plane >= 0; --plane) {
            for (const int size : sizes) {
                border.edges.push_back(border.edges.back() + size);
                weight.push_back(weight.back() + (std::int64_t{size} << plane));
            }
        }
        for (const std::int64_t sum : weight) border.most.push_back(weight.back() - sum);
        for (int channel = 0; channel < plan.channels; ++channel)
            border.first_open.push_back(first_open(border, plan.thresholds[at(c * plan.channels + channel)]));
        max_words_ = std::max(max_words_, static_cast<int>(sizes.size()) * plan.planes);
        classes_.push_back(std::move(border));
    }
    zeros_.assign(at(max_words_ + 1), 0);
    rows_read_ = read_by_windows(plan.rows, plan.out_rows(), plan.pool.rows, plan.pool_stride.rows);
    columns_read_ = read_by_windows(plan.columns, plan.out_columns(), plan.pool.columns, plan.pool_stride.columns);
}

int Layer::constant(int border, int channel) const {
    if (plan_.output) return -1;
    const std::int64_t threshold = plan_.thresholds[at(border * plan_.channels + channel)];
    if (threshold <= 0) return 1;
    return threshold > classes_[at(border)].most.front() ? 0 : -1;
}

PackedMap Layer::pack(const Map& map) const {
    PackedMap packed;
    packed.words = (plan_.in_channels + 63) / 64;
    const std::size_t pixels = map.size() / at(plan_.in_channels);
    packed.bits.assign(pixels * at(plan_.planes * packed.words), 0);
    const std::uint16_t* value = map.data();
    for (Word* pixel = packed.bits.data(); value < map.data() + map.size(); pixel += plan_.planes * packed.words)
        for (int c = 0; c < plan_.in_channels; ++c, ++value)
            for (int plane = 0; plane < plan_.planes; ++plane)
                pixel[plane * packed.words + c / 64] |= Word{(*value >> (plan_.planes - 1 - plane)) & 1U} << (c % 64);
    return packed;
}

void Layer::gather(const PackedMap& map, int window, Patch& patch) const {
    const int row = window_row_in_image(window), column = window_column(window);
    const int size = plan_.planes * plan_.edge_words * config_.limbs();
    patch.bits.assign(at(plan_.positions() * plan_.groups * size), 0);
    patch.classes.resize(at(plan_.positions()));
    for (int p = 0; p < plan_.positions(); ++p) {
        const int y = row + p / plan_.pool.columns, x = column + p % plan_.pool.columns;
        patch.classes[at(p)] = border(y, x);
        for (int g = 0; g < plan_.groups; ++g)
            gather_position(map, window / plan_.image_windows(), y, x, g,
                            &patch.bits[at((p * plan_.groups + g) * size)]);
    }
}

void Layer::gather_position(const PackedMap& map, int image, int row, int column, int group, Word* bits) const {
    const int depth = plan_.in_channels / plan_.groups, plane_size = plan_.edge_words * config_.limbs();
    for (int ky = 0; ky < plan_.kernel.rows; ++ky) {
        const int y = row * plan_.stride.rows - plan_.top + ky;
        if (y < 0 || y >= plan_.in_rows) continue;
        for (int kx = 0; kx < plan_.kernel.columns; ++kx) {
            const int x = column * plan_.stride.columns - plan_.left + kx;
            if (x < 0 || x >= plan_.in_columns) continue;
            const int pixel = (image * plan_.in_rows + y) * plan_.in_columns + x;
            const int edge = (ky * plan_.kernel.columns + kx) * depth;
            for (int plane = 0; plane < plan_.planes; ++plane) {
                const Word* const from = &map.bits[at(pixel * plan_.planes + plane) * at(map.words)];
                for (int c = 0; c < depth; c += 64) {
                    const int first = group * depth + c, shift = first % 64;
                    const Word* const word = from + first / 64;
                    const bool split = shift > 0 && first / 64 + 1 < map.words;
                    const Word value = *word >> shift | (split ? word[1] << (64 - shift) : 0);
                    put_bits(bits + plane * plane_size, edge + c, value, std::min(64, depth - c));
                }
            }
        }
    }
}

/// Writes the lowest `count` bits of a value as the operand of the edges from `edge` on.
void Layer::put_bits(Word* bits, int edge, Word value, int count) const {
    const int unit = std::min(config_.word, 64);  // edges that one limb holds
    while (count > 0) {
        const int offset = edge % unit, part = std::min(count, unit - offset);
        const Word mask = part < 64 ? (Word{1} << part) - 1 : ~Word{0};
        bits[edge / unit] |= (value & mask) << offset;
        value = part < 64 ? value >> part : 0;
        edge += part;
        count -= part;
    }
}

/// Words after which a neuron may be decided for the first time, whatever its edges hold.
int Layer::first_open(const Border& border, std::int64_t threshold) const {
    const auto& most = border.most;
    int q = 0;
    while (at(q) + 1 < most.size() && most.front() - most[at(q)] < threshold && most[at(q)] >= threshold) ++q;
    return q;
}

Layer::Bounds Layer::sharp_bounds(const Word* x, const Word* w, int border, Scratch& scratch) const {
    const Border& b = classes_[at(border)];
    const int limbs = config_.limbs(), count = static_cast<int>(b.index.size()), words = count * plan_.planes;
    scratch.low.assign(at(words + 1), 0);
    scratch.high.assign(at(words + 1), 0);
    for (int q = words - 1; q >= 0; --q) {
        const int k = b.index[at(q % count)], plane = q / count;
        const Word* exists = &plan_.exists[at((border * plan_.edge_words + k) * limbs)];
        const int ones = popcount_masked(x + (plane * plan_.edge_words + k) * limbs, exists, limbs);
        const int positive = popcount_masked(w + k * limbs, exists, limbs);
        const int size = popcount(exists, limbs), shift = plan_.planes - 1 - plane;
        scratch.low[at(q)] = scratch.low[at(q + 1)] + (std::int64_t{std::abs(ones + positive - size)} << shift);
        scratch.high[at(q)] = scratch.high[at(q + 1)] + (std::int64_t{size - std::abs(ones - positive)} << shift);
    }
    return {scratch.high.data(), scratch.low.data(), 0};
}

POPCNT_CLONES void Layer::evaluate(const Patch& patch, int position, int channel, Scratch& scratch,
                                   Evaluation& result) const {
    const int limbs = config_.limbs(), plane_size = plan_.edge_words * limbs;
    const int border = patch.classes[at(position)];
    const int group = plan_.groups == 1 ? 0 : channel / (plan_.channels / plan_.groups);
    const Word* x = &patch.bits[at((position * plan_.groups + group) * plan_.planes * plane_size)];
    const Word* const w = &plan_.weights[at(channel * plane_size)];
    const Word* const exists = &plan_.exists[at(border * plane_size)];
    const Border& b = classes_[at(border)];
    const int count = static_cast<int>(b.index.size());
    const bool prune = config_.prune && !plan_.output;
    result.words = count * plan_.planes;
    result.edges = b.edges.back();
    Bounds bounds{b.most.data(), zeros_.data(), 0};
    if (prune && config_.sharp) bounds = sharp_bounds(x, w, border, scratch);
    const int open = !prune ? result.words : config_.sharp ? 0 : b.first_open[at(channel)];
    bounds.threshold = plan_.thresholds[at(border * plan_.channels + channel)];
    scratch.scores.resize(at(max_words_ + 1));
    result.waits.resize(at(max_words_));
    // Locals, since what is written through `waits` might otherwise be any member.
    std::int64_t* const scores = scratch.scores.data();
    std::uint8_t* const waits = result.waits.data();
    const int* const index = b.index.data();
    const int words = result.words, hidden = config_.latency - 1;
    int i = 0, shift = plan_.planes - 1;
    const auto next = [&] {
        const int k = index[i] * limbs;
        const std::int64_t found = std::int64_t{matches(x + k, w + k, exists + k, limbs)} << shift;
        if (++i == count) i = 0, --shift, x += plane_size;
        return found;
    };
    std::int64_t score = scores[0] = 0;
    int q = 0, known = 0, back_to_back = open;
    if (limbs == 1 && plan_.planes == 1)  // the same, for most stages
        for (; q < open; i = q) {
            const int k = index[q];
            scores[++q] = score += std::popcount(~(x[k] ^ w[k]) & exists[k]);
        }
    while (q < open) scores[++q] = score += next();
    bool decided = prune && bounds.decide(score, q);
    while (!decided && q < words) {
        while (known < q && bounds.may_decide(scores[known], known, q)) ++known;
        waits[q] = static_cast<std::uint8_t>(std::min(q - known, 255));
        back_to_back += back_to_back == q && (known == 0 || q - known >= hidden);
        scores[++q] = score += next();
        decided = bounds.decide(score, q);
    }
    result.decided_at = q;
    result.back_to_back = back_to_back;
    result.decided_edges = b.edges[at(q)];
    result.score = score;
    result.bit = score + bounds.least[q] >= bounds.threshold;
}

Layer::Span Layer::input_rows(int window) const {
    const int first = window_row_in_image(window) * plan_.stride.rows - plan_.top;
    const int size = (plan_.pool.rows - 1) * plan_.stride.rows + plan_.kernel.rows;
    return {std::max(first, 0), std::min(first + size, plan_.in_rows)};
}

std::int64_t Layer::first_read(int window) const {
    const std::int64_t above = std::min(input_rows(window).first, plan_.in_rows);
    const std::int64_t column = above < plan_.in_rows ? std::min(input_columns(window).first, plan_.in_columns) : 0;
    return window / plan_.image_windows() * image_elements() + (above * plan_.in_columns + column) * plan_.in_channels;
}

std::int64_t Layer::first_read_from(int window) const {
    const int next_row = (window / plan_.out_columns() + 1) * plan_.out_columns();
    return next_row < plan_.windows() ? std::min(first_read(window), first_read(next_row)) : first_read(window);
}

std::int64_t Layer::last_read(int window) const {
    const std::int64_t above = std::max(input_rows(window).last, 1) - 1;
    const std::int64_t element = (above * plan_.in_columns + input_columns(window).last) * plan_.in_channels;
    return window / plan_.image_windows() * image_elements() + element;
}

Layer::Span Layer::input_columns(int window) const {
    const int first = window % plan_.out_columns() * plan_.pool_stride.columns * plan_.stride.columns - plan_.left;
    const int size = (plan_.pool.columns - 1) * plan_.stride.columns + plan_.kernel.columns;
    return {std::max(first, 0), std::min(first + size, plan_.in_columns)};
}

int Layer::column_words(int window, int column) const {
    const int row = window_row_in_image(window);
    if (aligned()) {
        const Span span = input_rows(window);
        const int rows = std::max(span.last - span.first, 0);
        return (rows * plan_.in_channels * plan_.planes + config_.word - 1) / config_.word;
    }
    int words = 0;
    for (int y = row; y < row + plan_.pool.rows; ++y) words += this->words(border(y, column)) * plan_.groups;
    return words;
}

int Layer::patch_words(int window) const {
    const int left = window % plan_.out_columns() * plan_.pool_stride.columns;
    const Span span = aligned() ? input_columns(window) : Span{left, left + plan_.pool.columns};
    int words = 0;
    for (int column = span.first; column < span.last; ++column) words += column_words(window, column);
    return words;
}

int Layer::shared_words(int window) const {
    if (window % plan_.out_columns() == 0) return 0;
    const int left = window % plan_.out_columns() * plan_.pool_stride.columns,
              before = left - plan_.pool_stride.columns;
    const Span now = aligned() ? input_columns(window) : Span{left, left + plan_.pool.columns};
    const Span old = aligned() ? input_columns(window - 1) : Span{before, before + plan_.pool.columns};
    int words = 0;
    for (int column = std::max(now.first, old.first); column < std::min(now.last, old.last); ++column)
        words += column_words(window, column);
    return words;
}

}  // namespace o3bnn::accel
