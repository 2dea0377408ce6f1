package main

import (
	"fmt"
	"slices"
)

// spread is a set of measurements.
type spread []float64

func spreadOf(all []measurement, of func(measurement) float64) (s spread) {
	for _, m := range all {
		s = append(s, of(m))
	}
	slices.Sort(s)
	return s
}

func (s spread) median() float64 { return s[len(s)/2] }

// text writes the median, the least and the most.
func (s spread) text(format string) string {
	if s[0] == s[len(s)-1] {
		return fmt.Sprintf(format, s[0])
	}
	return fmt.Sprintf(format+" ["+format+" … "+format+"]", s.median(), s[0], s[len(s)-1])
}

// printTable prints a line for each peer, in markdown.
func printTable(taking []peer, results [][]measurement) {
	fmt.Println("| | s | times as fast as docker pull | bytes of blobs from the registry | connections | CPU of the engine, s | of the registry and the link, s | of Towline, s | its memory at most, MB | its disk, MB |")
	fmt.Println("|---|---|---|---|---|---|---|---|---|---|")
	for i, p := range taking {
		all := results[i]
		var faster spread
		for n, m := range all {
			faster = append(faster, results[0][n].seconds/m.seconds)
		}
		slices.Sort(faster)
		sent := spreadOf(all, func(m measurement) float64 { return m.sent }).text("%.3f")
		if twice := spreadOf(all, func(m measurement) float64 { return float64(m.twice) }); twice[len(twice)-1] > 0 {
			sent += fmt.Sprintf(", %s blobs more than once", twice.text("%.0f"))
		}
		fmt.Printf("| %s | %s | %s | × %s | %s | %s | %s |", p.name,
			spreadOf(all, func(m measurement) float64 { return m.seconds }).text("%.2f"), faster.text("%.2f"), sent,
			orNone(spreadOf(all, func(m measurement) float64 { return float64(m.connections) })),
			spreadOf(all, func(m measurement) float64 { return m.engineCPU }).text("%.1f"),
			spreadOf(all, func(m measurement) float64 { return m.benchCPU }).text("%.1f"))
		if all[0].towline == nil {
			fmt.Println(" | | |")
			continue
		}
		fmt.Printf(" %s | %s | %s |\n",
			spreadOf(all, func(m measurement) float64 { return m.towline.cpu }).text("%.2f"),
			spreadOf(all, func(m measurement) float64 { return m.towline.peak }).text("%.0f"),
			spreadOf(all, func(m measurement) float64 { return m.towline.disk }).text("%.0f"))
	}
	fmt.Println()
	for i, p := range taking {
		var told []string
		for _, m := range results[i] {
			if m.towline != nil && !slices.Contains(told, m.towline.ways) {
				told = append(told, m.towline.ways)
				fmt.Printf("%s: %s\n", p.name, m.towline.ways)
			}
		}
	}
}

func orNone(s spread) string {
	if s[len(s)-1] == 0 {
		return ""
	}
	return s.text("%.0f")
}
