package main

import "fmt"

const (
	shapeMesh      = "mesh"
	shapeBipartite = "bipartite"
	roleA          = "map"
	roleB          = "reduce"
)

// place is a peer's part in the shape.
type place struct {
	index int
	name  string
	role  string
	links int // how many it has in all
}

// shape is who is to be linked to whom.
type shape struct {
	o      options
	places []place
}

func newShape(o options) shape {
	s := shape{o: o}
	n := o.n
	if o.shape == shapeBipartite {
		n = o.a + o.b
	}
	for i := range n {
		p := place{index: i, name: fmt.Sprintf("p%03d", i), links: o.n - 1}
		if o.shape == shapeBipartite {
			p.role, p.links = roleA, o.b
			if i >= o.a {
				p.role, p.links = roleB, o.a
			}
		}
		s.places = append(s.places, p)
	}
	return s
}

// linked tells whether two of the peers want a link.
func (s shape) linked(i, j int) bool {
	return i != j && (s.o.shape == shapeMesh || s.places[i].role != s.places[j].role)
}

// links counts the pairs.
func (s shape) links() int {
	n := 0
	for _, p := range s.places {
		n += p.links
	}
	return n / 2
}
