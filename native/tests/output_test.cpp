// Output stages.
#include "guarded.hpp"

namespace o3bnn::testing {

void test_output(const Isas& isas) {
    for (std::size_t words = 1; words <= kEveryWords; ++words) {
        for (const std::size_t classes : {1, 2, 3, 10, 97}) {
            if (!selected()) continue;
            const std::vector<Word> weights = random_words(words * classes), inputs = random_words(words * 4);
            const auto fan_in = static_cast<std::int32_t>(words * kWordBits - random_below(kWordBits));
            for (const Isa* isa : isas) {
                std::snprintf(current, sizeof current, "%s: %zu classes, %zu words", isa->output->name, classes, words);
                const Word* rows = memory().rows.place(weights);
                for (std::size_t patch = 0; patch < 4; ++patch) {
                    Word* bits = memory().patches[0].place<Word>(words);
                    std::copy_n(inputs.data() + patch * words, words, bits);
                    auto* sums = memory().sums.place<std::int32_t>(classes);
                    isa->output->sums(bits, rows, words, fan_in, classes, sums);
                    for (std::size_t c = 0; c < classes; ++c) {
                        if (sums[c] != fan_in - 2 * naive_mismatches(bits, rows + c * words, 0, words))
                            fail("class " + std::to_string(c));
                    }
                }
            }
        }
    }
}

}  // namespace o3bnn::testing
