#include <algorithm>

#include "engine/walk.hpp"

namespace o3bnn {

void walk_tables(const Stage& stage, const Operand& operand, const Part& part, Word* neurons, Scratch& scratch) {
    const TableForm& form = *stage.tables;
    const std::size_t width = stage.conv.width, kernel_rows = form.kernel_rows();
    std::int16_t* tables = room(scratch.tables, kernel_rows * form.row_entries());  // a ring of map rows
    std::int32_t* beyond = room(scratch.beyond, kernel_rows * width);
    std::vector<const std::int16_t*>& rows = scratch.table_rows;
    rows.resize(kernel_rows);
    std::size_t made = 0;
    for (std::size_t y = part.row; y < part.rows_end; ++y) {
        if (!stage.reads_row(y)) continue;
        const std::size_t first = y * stage.stride.rows;
        for (made = std::max(made, first); made < first + kernel_rows; ++made) {
            const std::size_t slot = made % kernel_rows;
            form.make(*stage.integer, stage.octets->map_row(operand.octets, made), tables + slot * form.row_entries(),
                      beyond + slot * width);
        }
        for (std::size_t ky = 0; ky < kernel_rows; ++ky)
            rows[ky] = tables + (first + ky) % kernel_rows * form.row_entries();
        for (std::size_t x = 0; x < width; x += kMaxTile) {
            TableTile tiles[kMaxTile];
            const std::size_t count = std::min(kMaxTile, width - x);
            for (std::size_t i = 0; i < count; ++i) {
                const std::size_t position = y * width + x + i;
                tiles[i] = form.tile(x + i, stage.border_class(position), neurons + position * stage.out.pixel_words());
                for (std::size_t row = 0; row < kernel_rows; ++row) tiles[i].beyond += beyond[row * width + x + i];
            }
            stage.integer->by_tables(form.task(tiles, count, rows.data()));
        }
    }
}

}  // namespace o3bnn
