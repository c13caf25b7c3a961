package report

import (
	"fmt"
	"html"
	"strings"
)

// Plots are SVG whose colours and letters come from the page, so that they are right
// in light, in dark and on paper. A colour is a rail's in all of them.

// A mark is a point with the interval of its median.
type mark struct {
	x, y      float64 // of facets, only x
	low, high float64
	shape     int
	hint      string
}

// A svg is a picture in the making.
type svg struct {
	strings.Builder
	w, h float64
}

func newSVG(w, h float64, name string) *svg {
	s := &svg{w: w, h: h}
	fmt.Fprintf(s, `<svg viewBox="0 0 %g %g" role="img" aria-label="%s" preserveAspectRatio="xMidYMid meet">`, w, h, html.EscapeString(name))
	return s
}

func (s *svg) done() string { return s.String() + "</svg>" }

func (s *svg) line(class string, x1, y1, x2, y2 float64) {
	fmt.Fprintf(s, `<line class="%s" x1="%.1f" y1="%.1f" x2="%.1f" y2="%.1f"/>`, class, x1, y1, x2, y2)
}

func (s *svg) text(class string, x, y float64, anchor, text string) {
	fmt.Fprintf(s, `<text class="%s" x="%.1f" y="%.1f" text-anchor="%s">%s</text>`, class, x, y, anchor, html.EscapeString(text))
}

// point draws a mark of a rail: its place among the rails is its colour.
func (s *svg) point(colour, shape int, x, y float64, hint string) {
	fmt.Fprintf(s, `<g class="c%d">`, colour)
	switch shape {
	case 1: // a diamond
		fmt.Fprintf(s, `<path class="mark" d="M%.1f %.1fl4.6 4.6l-4.6 4.6l-4.6-4.6z">`, x, y-4.6)
	case 2: // a triangle
		fmt.Fprintf(s, `<path class="mark" d="M%.1f %.1fl5 8.4h-10z">`, x, y-5.2)
	default:
		fmt.Fprintf(s, `<circle class="mark" cx="%.1f" cy="%.1f" r="4">`, x, y)
	}
	fmt.Fprintf(s, "<title>%s</title>", html.EscapeString(hint))
	s.WriteString(map[int]string{1: "</path>", 2: "</path>"}[shape])
	if shape == 0 {
		s.WriteString("</circle>")
	}
	s.WriteString("</g>")
}

// A facetPlot has a panel beside another, all with the same rows and the same axis.
type facetPlot struct {
	title, unit string
	rows        []string
	colours     []int // of the rows
	panels      []string
	// marks are those of a panel's row, and why there are none.
	marks  func(panel, row int) ([]mark, string)
	shapes []string // what the shapes mean; none if there is but one
	one    bool     // a line at 1
}

const (
	facetWidth  = 900
	facetLeft   = 190
	facetGap    = 14
	facetRow    = 26
	facetTop    = 30
	facetBottom = 44
)

func (f *facetPlot) draw() string {
	var values []float64
	for p := range f.panels {
		for r := range f.rows {
			marks, _ := f.marks(p, r)
			for _, m := range marks {
				values = append(values, m.x, m.low, m.high)
			}
		}
	}
	if f.one {
		values = append(values, 1)
	}
	height := float64(facetTop + len(f.rows)*facetRow + facetBottom)
	if len(f.shapes) > 0 {
		height += 20
	}
	s := newSVG(facetWidth, height, f.title)
	width := (facetWidth - facetLeft - 12 - float64(len(f.panels)-1)*facetGap) / float64(len(f.panels))
	bottom := float64(facetTop + len(f.rows)*facetRow)
	for r, name := range f.rows {
		s.text("label", facetLeft-12, f.y(r)+4, "end", name)
	}
	for p, name := range f.panels {
		left := facetLeft + float64(p)*(width+facetGap)
		a := newAxis(values, true, left+8, left+width-8)
		s.text("panel", left+width/2, facetTop-12, "middle", name)
		fmt.Fprintf(s, `<rect class="frame" x="%.1f" y="%d" width="%.1f" height="%.1f"/>`, left, facetTop-4, width, bottom-facetTop+4)
		for _, v := range a.ticks(max(3, int(width/38))) {
			s.line("grid", a.at(v), facetTop-4, a.at(v), bottom)
			s.text("tick", a.at(v), bottom+15, "middle", short(v))
		}
		if f.one {
			s.line("one", a.at(1), facetTop-4, a.at(1), bottom)
		}
		for r := range f.rows {
			f.row(s, &a, p, r, left+width/2)
		}
	}
	s.text("axis", facetLeft+(facetWidth-facetLeft)/2, bottom+35, "middle", f.unit)
	for i, name := range f.shapes {
		x := facetLeft + 20 + float64(i)*150
		s.point(-1, i, x, height-10, name)
		s.text("tick", x+10, height-6, "start", name)
	}
	return s.done()
}

func (f *facetPlot) y(row int) float64 { return facetTop + (float64(row)+0.5)*facetRow }

func (f *facetPlot) row(s *svg, a *axis, panel, row int, middle float64) {
	marks, why := f.marks(panel, row)
	y := f.y(row)
	if len(marks) == 0 {
		fmt.Fprintf(s, `<text class="none" x="%.1f" y="%.1f" text-anchor="middle">–<title>%s</title></text>`, middle, y+4, html.EscapeString(why))
		return
	}
	c := f.colours[row]
	if n := len(marks); n > 1 {
		fmt.Fprintf(s, `<g class="c%d">`, c)
		s.line("joint", a.at(marks[0].x), y, a.at(marks[n-1].x), y)
		s.WriteString("</g>")
	}
	for _, m := range marks {
		fmt.Fprintf(s, `<g class="c%d">`, c)
		errorBar(s, a.at(m.low), y-4, a.at(m.low), y+4, a.at(m.high), y)
		s.WriteString("</g>")
	}
	for _, m := range marks {
		s.point(c, m.shape, a.at(m.x), y, m.hint)
	}
}

// errorBar is horizontal, from the first whisker's x to x2 at height y.
func errorBar(s *svg, x1, top, _, bottom, x2, y float64) {
	if x2-x1 < 0.5 {
		return
	}
	s.line("bar", x1, y, x2, y)
	s.line("bar", x1, top, x1, bottom)
	s.line("bar", x2, top, x2, bottom)
}

// A linePlot has lines over a common axis.
type linePlot struct {
	title, x, y string
	xlog, ylog  bool
	names       []string
	colours     []int
	lines       [][]mark
}

const (
	lineWidth  = 440
	lineLeft   = 58
	lineRight  = 12
	lineTop    = 12
	lineBottom = 42
)

func (l *linePlot) draw() string {
	var xs, ys []float64
	for _, line := range l.lines {
		for _, m := range line {
			xs, ys = append(xs, m.x), append(ys, m.y, m.low, m.high)
		}
	}
	height := 250.0
	s := newSVG(lineWidth, height+18*float64((len(l.names)+1)/2), l.title)
	bottom := height - lineBottom
	x := newAxis(xs, l.xlog, lineLeft+10, lineWidth-lineRight-10)
	y := newAxis(ys, l.ylog, bottom, lineTop)
	fmt.Fprintf(s, `<rect class="frame" x="%d" y="%d" width="%d" height="%.1f"/>`, lineLeft, lineTop, lineWidth-lineLeft-lineRight, bottom-lineTop)
	for _, v := range y.ticks(6) {
		s.line("grid", lineLeft, y.at(v), lineWidth-lineRight, y.at(v))
		s.text("tick", lineLeft-6, y.at(v)+4, "end", short(v))
	}
	for _, v := range l.xticks(&x, xs) {
		s.line("grid", x.at(v), lineTop, x.at(v), bottom)
		s.text("tick", x.at(v), bottom+15, "middle", short(v))
	}
	s.text("axis", (lineLeft+lineWidth-lineRight)/2, bottom+34, "middle", l.x)
	fmt.Fprintf(s, `<text class="axis" transform="translate(13 %.1f) rotate(-90)" text-anchor="middle">%s</text>`, (lineTop+bottom)/2, html.EscapeString(l.y))
	for i, line := range l.lines {
		c := l.colours[i]
		fmt.Fprintf(s, `<g class="c%d"><path class="line" d="`, c)
		for j, m := range line {
			fmt.Fprintf(s, "%c%.1f %.1f", "LM"[b2i(j == 0)], x.at(m.x), y.at(m.y))
		}
		s.WriteString(`"/>`)
		for _, m := range line {
			if top, low := y.at(m.high), y.at(m.low); low-top >= 0.5 {
				s.line("bar", x.at(m.x), top, x.at(m.x), low)
				s.line("bar", x.at(m.x)-4, top, x.at(m.x)+4, top)
				s.line("bar", x.at(m.x)-4, low, x.at(m.x)+4, low)
			}
		}
		s.WriteString("</g>")
		for _, m := range line {
			s.point(c, m.shape, x.at(m.x), y.at(m.y), m.hint)
		}
		lx, ly := lineLeft+float64(i%2)*190, height+6+18*float64(i/2)
		s.point(c, 0, lx+6, ly, l.names[i])
		s.text("tick", lx+16, ly+4, "start", l.names[i])
	}
	return s.done()
}

func b2i(b bool) int {
	if b {
		return 1
	}
	return 0
}

// xticks are where there is something, if it is few.
func (l *linePlot) xticks(a *axis, xs []float64) []float64 {
	seen := map[float64]bool{}
	var few []float64
	for _, x := range xs {
		if !seen[x] {
			seen[x] = true
			few = append(few, x)
		}
	}
	if len(few) <= 6 {
		return few
	}
	return a.ticks(6)
}
