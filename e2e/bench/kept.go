package main

import (
	"cmp"
	"maps"
	"slices"
	"strconv"
	"strings"
)

// kept are the cells of a page, by table, row and column: what was measured before at other sizes stays on it, so that a
// page can be made in pieces. Its columns say when each was measured, and at what load.
type kept map[cellAt]string

type cellAt struct{ table, row, column string }

// readTables reads the tables of a page as text writes them. What is no table means nothing.
func readTables(page string) kept {
	found := kept{}
	title := ""
	var columns []string
	for line := range strings.Lines(page) {
		line = strings.TrimSpace(line)
		if name, is := strings.CutPrefix(line, "### "); is {
			title, columns = name, nil
		}
		cells := strings.Split(strings.Trim(line, "| "), " | ")
		switch {
		case !strings.HasPrefix(line, "| "):
		case columns == nil:
			columns = cells
		default:
			for i := 1; i < min(len(cells), len(columns)); i++ {
				found[cellAt{title, cells[0], columns[i]}] = cells[i]
			}
		}
	}
	return found
}

// columns are the sizes that were measured now or before, ascending.
func (b *bench) columns() []string {
	all := map[string]bool{}
	for at := range b.before {
		if at.table == goalsTitle {
			all[at.column] = true
		}
	}
	for _, f := range b.everyMeasured {
		all[thousands(f.services)] = true
	}
	return slices.SortedFunc(maps.Keys(all), func(x, y string) int { return cmp.Compare(size(x), size(y)) })
}

// size is the inverse of thousands, 0 if it is no number.
func size(column string) int {
	n, err := strconv.Atoi(strings.ReplaceAll(column, ",", ""))
	if err != nil {
		return 0
	}
	return n
}

// cell is what was measured now, or before, or nothing.
func (b *bench) cell(title, column string, r row) string {
	for _, f := range b.everyMeasured {
		if thousands(f.services) == column {
			return r.cell(f)
		}
	}
	if before := b.before[cellAt{title, r.name, column}]; before != "" {
		return before
	}
	return "-"
}
