// Runs images through a network: one image an item, a worker each.
#pragma once

#include <atomic>
#include <memory>

#include "engine/pool.hpp"
#include "engine/walk.hpp"
#include "kernels/profile.hpp"

namespace o3bnn {

/// A network as Python hands it over.
struct Plan {
    Shape image;
    std::int16_t table[256] = {};
    bool binary_input = false;
    std::vector<StageSpec> stages;
    std::vector<Word> output_rows;  ///< [classes][word_count(features)]
    std::size_t features = 0, classes = 0;
};

/// Immutable once built; any number of threads may call its functions at the same time. Images are uint8 [n][h][w][c].
class Engine {
  public:
    /// shared_edges: dense edges of an image from which on several threads work on one, where there are fewer images.
    Engine(const Plan& plan, const Isa& isa, std::size_t threads, std::uint64_t shared_edges);
    ~Engine();
    Engine(const Engine&) = delete;
    Engine& operator=(const Engine&) = delete;

    const std::vector<Stage>& stages() const { return stages_; }
    const Shape& image() const { return image_; }
    std::size_t classes() const { return classes_; }

    /// out: int32 [n][classes].
    void sums(const std::uint8_t* images, std::size_t n, std::int32_t* out) const;

    /// maps: per stage, uint8 [n][out shape] of 0 and 1.
    void activations(const std::uint8_t* images, std::size_t n, const std::vector<std::uint8_t*>& maps) const;

    /// Edges per stage, summed over the images.
    std::vector<EdgeCounts> profile(const std::uint8_t* images, std::size_t n, std::size_t word, Bounds bounds) const;

    /// out: seconds [n][stages + 1] that each stage took (encoding in the first), then the output stage; on this
    /// thread.
    void stage_seconds(const std::uint8_t* images, std::size_t n, double* out) const;

  private:
    struct Workers;
    struct Session;
    struct Trace;

    Workers& workers() const;
    void sums_together(const std::uint8_t* images, std::size_t n, std::int32_t* out) const;
    void for_each_image(std::size_t n, const std::function<void(std::size_t, Scratch&)>& body) const;
    void forward(const std::uint8_t* image, Scratch& scratch, const Trace& trace) const;
    Operand encode(const std::uint8_t* image, Scratch& scratch, const Trace& trace) const;
    void run_stage(std::size_t index, const Operand& operand, Word* out, Scratch& scratch, const Trace& trace) const;
    void output(const Word* features, Scratch& scratch, const Trace& trace) const;

    Shape image_;
    std::int16_t table_[256];
    bool binary_input_;
    std::vector<Stage> stages_;
    const OutputKernel* output_;
    std::vector<Word> output_rows_;
    std::size_t features_, classes_, threads_;
    bool shares_images_ = false;
    mutable std::atomic<Workers*> workers_{nullptr};
};

}  // namespace o3bnn
