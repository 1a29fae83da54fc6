// Every kernel of every instruction set that this machine runs, against a loop over bits or edges, on awkward shapes.
//
// Buffers end where a page without access begins, so that an access past any of them ends the program. Results are
// surrounded by a pattern, which must survive. Exit code 1 on the first difference.
//
//     kernel_test [N]      every N-th shape only (an emulated processor is slow)
#include <csignal>
#include <cstring>

#include "guarded.hpp"

using namespace o3bnn;
using namespace o3bnn::testing;

namespace {

void on_fault(int) {
    const char text[] = "FAILED: access outside of a buffer in ";
    if (write(1, text, sizeof text - 1) < 0 || write(1, current, std::strlen(current)) < 0 || write(1, "\n", 1) < 0)
        _exit(2);
    _exit(1);
}

}  // namespace

int main(int argc, char** argv) {
    if (argc > 1) every = std::max(std::strtoul(argv[1], nullptr, 10), 1ul);
    struct sigaction action = {};
    action.sa_handler = on_fault;
    sigaction(SIGSEGV, &action, nullptr);
    sigaction(SIGBUS, &action, nullptr);
    Isas isas;
    for (const std::string& name : available_isas()) {
        isas.push_back(&find_isa(name));
        std::printf("%s: %s, %s, %s\n", name.c_str(), isas.back()->binary->name, isas.back()->integer->name,
                    isas.back()->output->name);
    }
    test_bits(isas);
    test_exits(isas);
    test_pools(isas);
    test_integers(isas);
    test_octets(isas);
    test_tables(isas);
    test_output(isas);
    std::printf("%zu shapes agree\n", (shapes + every - 1) / every);
}
