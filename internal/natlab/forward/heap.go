package forward

// heap has the item that is due first at the front; of equals the one pushed first. It is
// written out, because container/heap would box each item.
type heap struct {
	items  []item
	pushed uint64
}

func before(a, b *item) bool {
	if a.due != b.due {
		return a.due < b.due
	}
	return a.order < b.order
}

func (h *heap) push(it item) {
	h.pushed++
	it.order = h.pushed
	h.items = append(h.items, it)
	q := h.items
	for i := len(q) - 1; i > 0; {
		parent := (i - 1) / 2
		if !before(&q[i], &q[parent]) {
			break
		}
		q[i], q[parent] = q[parent], q[i]
		i = parent
	}
}

func (h *heap) pop() item {
	n := len(h.items) - 1
	first := h.items[0]
	h.items[0], h.items[n] = h.items[n], item{}
	h.items = h.items[:n]
	q := h.items
	for i := 0; ; {
		least := i
		for child := 2*i + 1; child <= 2*i+2 && child < n; child++ {
			if before(&q[child], &q[least]) {
				least = child
			}
		}
		if least == i {
			return first
		}
		q[i], q[least] = q[least], q[i]
		i = least
	}
}
