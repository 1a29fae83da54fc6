#include "engine/patch.hpp"

#include <algorithm>
#include <cstring>

#include "kernels/popcount.hpp"

namespace o3bnn {
namespace {

/// The part of a kernel axis that lies inside the map: kernel indices begin <= k < end, map index = k + origin.
struct Span {
    std::ptrdiff_t origin;
    std::size_t begin, end;

    Span(std::size_t index, std::size_t stride, std::size_t padding, std::size_t kernel, std::size_t size)
        : origin(static_cast<std::ptrdiff_t>(index * stride) - static_cast<std::ptrdiff_t>(padding)),
          begin(std::min(kernel, origin < 0 ? static_cast<std::size_t>(-origin) : 0)),
          end(std::max(begin, std::min(kernel, room(size)))) {}

    std::size_t at(std::size_t k) const { return static_cast<std::size_t>(static_cast<std::ptrdiff_t>(k) + origin); }

  private:
    std::size_t room(std::size_t size) const {
        const std::ptrdiff_t left = static_cast<std::ptrdiff_t>(size) - origin;
        return left > 0 ? static_cast<std::size_t>(left) : 0;
    }
};

/// Calls copy(first kernel edge, first map pixel, pixels) for every run of existing pixels, a kernel row each.
template <class Copy>
void for_each_run(const Stage& stage, std::size_t y, std::size_t x, Copy copy) {
    const Span rows(y, stage.stride.rows, stage.top, stage.kernel.rows, stage.in.height);
    const Span columns(x, stage.stride.columns, stage.left, stage.kernel.columns, stage.in.width);
    if (columns.begin == columns.end) return;
    for (std::size_t ky = rows.begin; ky < rows.end; ++ky) {
        const std::size_t edge = (ky * stage.kernel.columns + columns.begin) * stage.group_inputs;
        copy(edge, rows.at(ky) * stage.in.width + columns.at(columns.begin), columns.end - columns.begin);
    }
}

/// Some words, without the cost of a library call: a kernel row is short.
void copy_words(const void* words, std::size_t count, Word* target) {
    const auto* source = static_cast<const char*>(words);
    std::size_t i = 0;
    for (; i + 2 <= count; i += 2) std::memcpy(target + i, source + i * sizeof *target, 2 * sizeof *target);
    if (i < count) std::memcpy(target + i, source + i * sizeof *target, sizeof *target);
}

/// Some octets, likewise.
void copy_octets(const char* source, std::size_t count, char* target) {
    constexpr std::size_t kChunk = 8;
    if (count < kChunk) {
        for (std::size_t i = 0; i < count; ++i) target[i] = source[i];
        return;
    }
    for (std::size_t i = 0; i + kChunk < count; i += kChunk) std::memcpy(target + i, source + i, kChunk);
    std::memcpy(target + count - kChunk, source + count - kChunk, kChunk);
}

/// A few integers, likewise.
void copy_few(const std::int16_t* source, std::size_t count, std::int16_t* target) {
    constexpr std::size_t kChunk = 4;
    if (count < kChunk) {
        for (std::size_t i = 0; i < count; ++i) target[i] = source[i];
        return;
    }
    for (std::size_t i = 0; i + kChunk < count; i += kChunk)
        std::memcpy(target + i, source + i, kChunk * sizeof *source);
    const std::size_t last = count - kChunk;
    std::memcpy(target + last, source + last, kChunk * sizeof *source);
}

}  // namespace

void append_bits(Word* target, std::size_t to, const Word* source, std::size_t from, std::size_t count) {
    while (count > 0) {
        const std::size_t offset = from % kWordBits, shift = to % kWordBits;
        const std::size_t take = std::min({count, kWordBits - offset, kWordBits - shift});
        target[to / kWordBits] |= (source[from / kWordBits] >> offset & below(take)) << shift;
        from += take;
        to += take;
        count -= take;
    }
}

void flatten_bits(const Shape& shape, const Word* map, Word* flat) {
    std::fill_n(flat, word_count(shape.elements()), Word{0});
    for (std::size_t pixel = 0; pixel < shape.positions(); ++pixel)
        append_bits(flat, pixel * shape.channels, map + pixel * shape.pixel_words(), 0, shape.channels);
}

void gather_bits(const Stage& stage, const Word* map, std::size_t y, std::size_t x, std::size_t group, Word* patch) {
    const std::size_t inputs = stage.group_inputs, pixel_words = stage.in.pixel_words();
    const bool copies_words = stage.groups == 1 && inputs % kWordBits == 0;
    const std::size_t c = stage.border_class(y * stage.conv.width + x);
    if (!copies_words || static_cast<std::size_t>(stage.fan_in(c)) < stage.full_fan_in)
        std::fill_n(patch, stage.words, Word{0});
    for_each_run(stage, y, x, [&](std::size_t edge, std::size_t pixel, std::size_t pixels) {
        const Word* source = map + pixel * pixel_words;
        if (copies_words) {
            copy_words(source, pixels * pixel_words, patch + edge / kWordBits);
            return;
        }
        for (std::size_t i = 0; i < pixels; ++i, source += pixel_words, edge += inputs)
            append_bits(patch, edge, source, group * inputs, inputs);
    });
}

PaddedMap::PaddedMap(const Stage& stage)
    : row(stage.padded_width() * stage.in.channels / 8),
      height(stage.padded_height()) {}

bool PaddedMap::suits(const Stage& stage) {
    return !stage.integer_input && stage.groups == 1 && stage.group_inputs % 8 == 0 && stage.padding_is_small();
}

void pad_bits(const Stage& stage, const Word* map, Word* padded) {
    const PaddedMap shape(stage);
    const std::size_t pixel = stage.in.channels / 8, left = std::min(stage.left, stage.padded_width());
    const std::size_t inside = std::min(stage.in.width, stage.padded_width() - left);
    auto* row = reinterpret_cast<char*>(padded);
    for (std::size_t y = 0; y < shape.height; ++y, row += shape.row) {
        if (y < stage.top || y - stage.top >= stage.in.height) {
            std::fill_n(row, shape.row, char{0});
            continue;
        }
        std::fill_n(row, left * pixel, char{0});
        const Word* source = map + (y - stage.top) * stage.in.width * stage.in.pixel_words();
        char* out = row + left * pixel;
        if (stage.in.channels % kWordBits == 0) {
            std::memcpy(out, source, inside * pixel);
        } else {
            for (std::size_t x = 0; x < inside; ++x)
                std::memcpy(out + x * pixel, source + x * stage.in.pixel_words(), pixel);
        }
        std::fill(out + inside * pixel, row + shape.row, char{0});
    }
}

void gather_padded(const Stage& stage, const Word* padded, std::size_t y, std::size_t x, Word* patch) {
    const std::size_t pixel = stage.in.channels / 8, row = stage.padded_width() * pixel;
    const std::size_t run = stage.kernel.columns * pixel;
    const std::size_t start = y * stage.stride.rows * row + x * stage.stride.columns * pixel;
    const char* source = reinterpret_cast<const char*>(padded) + start;
    if (run % sizeof(Word) == 0) {
        for (std::size_t ky = 0; ky < stage.kernel.rows; ++ky, source += row, patch += run / sizeof(Word))
            copy_words(source, run / sizeof(Word), patch);
        return;
    }
    patch[stage.words - 1] = 0;  // beyond the last edge
    auto* target = reinterpret_cast<char*>(patch);
    for (std::size_t ky = 0; ky < stage.kernel.rows; ++ky, source += row, target += run)
        copy_octets(source, run, target);
}

void gather_integers(const Stage& stage, const std::int16_t* map, std::size_t y, std::size_t x, std::size_t group,
                     std::int16_t* patch) {
    const std::size_t inputs = stage.group_inputs, channels = stage.in.channels;
    const std::size_t c = stage.border_class(y * stage.conv.width + x);
    const std::size_t zeros_from =
        static_cast<std::size_t>(stage.fan_in(c)) < stage.full_fan_in ? 0 : stage.full_fan_in;
    std::fill(patch + zeros_from, patch + stage.integer_stride, std::int16_t{0});
    for_each_run(stage, y, x, [&](std::size_t edge, std::size_t pixel, std::size_t pixels) {
        const std::int16_t* source = map + pixel * channels;
        if (stage.groups == 1) {
            copy_few(source, pixels * channels, patch + edge);
            return;
        }
        for (std::size_t i = 0; i < pixels; ++i, source += channels, edge += inputs)
            copy_few(source + group * inputs, inputs, patch + edge);
    });
}

}  // namespace o3bnn
