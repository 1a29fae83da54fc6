// Walks over the neurons of one stage, for one image: dense, or pruning window by window.
#pragma once

#include "engine/stage.hpp"

namespace o3bnn {

/// A stage's input map: packed bits or, for the first stage, the encoded integers of the image or its OctetForm.
struct Operand {
    const Word* bits = nullptr;
    const Word* padded = nullptr;  ///< the bits as a PaddedMap, where it suits the stage and the walk
    const std::int16_t* integers = nullptr;
    const std::uint8_t* octets = nullptr;
};

/// Memory that one worker needs; it grows to what the largest stage takes, and stays.
struct Scratch {
    std::vector<std::int16_t> image, integer_patches;
    std::vector<std::uint8_t> octets, octet_patches;
    AlignedVector<Word> patches;
    std::vector<Word> maps[2];  ///< operand and result of the stage at hand, in turn
    std::vector<Word> flat, padded, group_fired, neurons, asked, fired, settled, visited;
    std::vector<std::int32_t> workspace, beyond;
    AlignedVector<std::int16_t> tables;
    std::vector<const std::int16_t*> table_rows;
};

/// The pruning kernels that a walk calls, and where they count.
struct PruneKernels {
    BinaryPrune binary;
    IntegerPrune integer;
    EdgeCounts* counts = nullptr;
    std::size_t word = kWordBits;
    std::size_t workspace = 0;  ///< elements
};

/// A part of a stage's output: some rows, or, of a stage with one position and one group, some channels (whole words).
struct Part {
    std::size_t row, rows_end, channel, channels_end;

    static Part whole(const Stage& stage) { return {0, stage.out.height, 0, stage.conv.channels}; }
    /// The neurons that the windows of this part read.
    Part before_pooling(const Stage& stage) const {
        const std::size_t step = stage.pool_stride.rows;
        return {row * step, (rows_end - 1) * step + stage.pool_size.rows, channel, channels_end};
    }
};

/// Evaluates every neuron that some window reads. out: [stage.out.words()], every word of the part written.
void walk_dense(const Stage& stage, const Operand& operand, const Part& part, Word* out, Scratch& scratch);

/// The two halves of `walk_dense`, for threads that share the neurons of windows that overlap: neurons of the rows of a
/// part (before pooling) that some window reads, and the windows of a part. neurons: [stage.conv.words()].
void walk_neurons(const Stage& stage, const Operand& operand, const Part& part, Word* neurons, Scratch& scratch);
void pool_neurons(const Stage& stage, const Part& part, const Word* neurons, Word* out);

/// walk_neurons for a stage with a TableForm; whole rows of neurons.
void walk_tables(const Stage& stage, const Operand& operand, const Part& part, Word* neurons, Scratch& scratch);

/// Windows in raster order; a window visits its neurons in raster order, for the channels that are not settled.
void walk_pruning(const Stage& stage, const PruneKernels& kernels, const Operand& operand, Word* out, Scratch& scratch);

/// Windows many at a time, by a pooling kernel, which leaves settled channels alone.
void walk_windows(const Stage& stage, const Operand& operand, const Part& part, Word* out, Scratch& scratch);

/// Makes room for at least `size` elements; the contents are not kept.
template <class T, class Allocator>
T* room(std::vector<T, Allocator>& buffer, std::size_t size) {
    if (buffer.size() < size) buffer = std::vector<T, Allocator>(size);
    return buffer.data();
}

}  // namespace o3bnn
