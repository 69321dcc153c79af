package exchange

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io"
	"reflect"
	"strings"
	"testing"
	"testing/iotest"
)

func unhex(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(strings.Join(strings.Fields(s), ""))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// The bytes that the diagrams in frame.go describe.
func TestFrameLayout(t *testing.T) {
	q := request{job: 0x0102030405060708, producer: 3, attempt: 1, partition: 2, consumerAttempt: 4, offset: 0x100000001}
	h := head{attempt: 1, size: 0x200, crc: 0xdeadbeef}
	cases := []struct {
		name  string
		frame []byte
		want  string
	}{
		{"fetch", q.frame(frameFetch), "4258 01 01 00000020 ........ 0102030405060708 00000003 00000001 00000002 00000004 0000000100000001"},
		{"ack", q.frame(frameAck), "4258 01 04 00000020 ........ 0102030405060708 00000003 00000001 00000002 00000004 0000000100000001"},
		{"partition", h.frame(0x100), "4258 01 02 00000018 ........ 00000001 deadbeef 0000000000000200 0000000000000100"},
		{"data", sealFrame(append(make([]byte, headerLen), "abc"...), frameData), "4258 01 03 00000003 1f67608b 616263"},
		{"acked", sealFrame(make([]byte, headerLen), frameAcked), "4258 01 05 00000000 ........"},
		{"refused", refusedFrame(refusedAttempt, "no"), "4258 01 06 00000006 ........ 00000002 6e6f"},
	}
	for _, tc := range cases {
		t.Run(tc.name, func(t *testing.T) {
			want := strings.ReplaceAll(tc.want, "........", hex.EncodeToString(tc.frame[8:12]))
			if !bytes.Equal(tc.frame, unhex(t, want)) {
				t.Fatalf("got  %x\nwant %s", tc.frame, want)
			}
			kind, payload, err := readFrame(iotest.OneByteReader(bytes.NewReader(tc.frame)), nil)
			if err != nil || byte(kind) != tc.frame[3] || !bytes.Equal(payload, tc.frame[headerLen:]) {
				t.Fatalf("read back type %d, %x, %v", kind, payload, err)
			}
			for i := range tc.frame { // any one bit
				for bit := range 8 {
					bad := bytes.Clone(tc.frame)
					bad[i] ^= 1 << bit
					if _, _, err := readFrame(bytes.NewReader(bad), nil); err == nil {
						t.Fatalf("byte %d, bit %d flipped: no error", i, bit)
					}
				}
			}
			for n := range tc.frame {
				_, _, err := readFrame(bytes.NewReader(tc.frame[:n]), nil)
				if want := io.ErrUnexpectedEOF; n == 0 && err != io.EOF || n > 0 && err != want {
					t.Fatalf("cut to %d bytes: %v", n, err)
				}
			}
		})
	}
	if got := parseRequest(q.frame(frameFetch)[headerLen:]); got != q {
		t.Errorf("request %+v", got)
	}
	if got, off, err := parseHead(h.frame(0x100)[headerLen:]); err != nil || got != h || off != 0x100 {
		t.Errorf("head %+v at %d, %v", got, off, err)
	}
}

func TestReadFrameRefusesLengthsOutOfBounds(t *testing.T) {
	for _, head := range []string{
		"4258 01 03 00010001", "4258 01 03 00000000", "4258 01 03 ffffffff", "4258 01 01 0000001f", "4258 01 05 00000001",
		"4258 01 06 00000003", "4258 01 06 00000105", "4258 01 00 00000000", "4258 01 07 00000000", "4258 02 03 00000001", "5842 01 03 00000001",
	} {
		_, _, err := readFrame(bytes.NewReader(append(unhex(t, head), make([]byte, 300)...)), nil)
		if !errors.Is(err, ErrProtocol) {
			t.Errorf("%s: %v", head, err)
		}
	}
}

func TestParseHeadRefusesNonsense(t *testing.T) {
	for _, s := range []string{
		"00000001 00000000 0000400000000001 0000000000000000", // too big
		"00000001 00000000 ffffffffffffffff 0000000000000000",
		"00000001 00000000 0000000000000001 0000000000000002", // offset beyond the end
		"80000000 00000000 0000000000000001 0000000000000000", // attempt
	} {
		if h, _, err := parseHead(unhex(t, s)); !errors.Is(err, ErrProtocol) {
			t.Errorf("%s: %+v, %v", s, h, err)
		}
	}
}

func FuzzReadFrame(f *testing.F) {
	f.Add(request{}.frame(frameFetch))
	f.Add(request{}.frame(frameAck))
	f.Add(head{}.frame(0))
	f.Add(sealFrame(append(make([]byte, headerLen), "abc"...), frameData))
	f.Add(sealFrame(make([]byte, headerLen), frameAcked))
	f.Add(refusedFrame(1, "why"))
	f.Fuzz(func(t *testing.T, b []byte) {
		kind, payload, err := readFrame(bytes.NewReader(b), make([]byte, 16))
		if err != nil {
			return
		}
		if again := sealFrame(append(make([]byte, headerLen), payload...), kind); !bytes.Equal(again, b[:len(again)]) {
			t.Fatalf("read %x, made again %x", b, again)
		}
		switch kind {
		case frameFetch, frameAck:
			if q := parseRequest(payload); !bytes.Equal(q.frame(kind), b[:headerLen+requestLen]) {
				t.Fatalf("request %+v", q)
			}
		case framePartition:
			if h, off, err := parseHead(payload); err == nil && (h.size < 0 || off < 0 || off > h.size || h.attempt < 0) {
				t.Fatalf("head %+v at %d", h, off)
			}
		case frameRefused:
			_ = parseRefused(payload).Error()
		}
	})
}

func goodRecord() commitRecord {
	return commitRecord{Version: 1, Job: "job/1", Producer: 3, Attempt: 2, Key: dataPrefix("job/1", 3, 2) + "0123456789abcdef.data", Size: 30,
		Partitions: []recordEntry{{0, 0, 10, 1}, {2, 10, 0, 0}, {5, 10, 20, 2}}}
}

func TestDecodeRecord(t *testing.T) {
	cases := []struct {
		name   string
		change func(*commitRecord)
		ok     bool
	}{
		{"good", func(*commitRecord) {}, true},
		{"empty", func(r *commitRecord) { r.Key, r.Size, r.Partitions = "", 0, nil }, true},
		{"version", func(r *commitRecord) { r.Version = 2 }, false},
		{"job", func(r *commitRecord) { r.Job = "job/2" }, false},
		{"producer", func(r *commitRecord) { r.Producer = 4 }, false},
		{"attempt", func(r *commitRecord) { r.Attempt = -1 }, false},
		{"key of another attempt", func(r *commitRecord) { r.Attempt = 1 }, false},
		{"key elsewhere", func(r *commitRecord) { r.Key = "secret" }, false},
		{"key deeper", func(r *commitRecord) { r.Key = dataPrefix("job/1", 3, 2) + "/../../x.data" }, false},
		{"key without nonce", func(r *commitRecord) { r.Key = dataPrefix("job/1", 3, 2) + ".data" }, false},
		{"no key", func(r *commitRecord) { r.Key = "" }, false},
		{"key for nothing", func(r *commitRecord) { r.Size, r.Partitions = 0, nil }, false},
		{"size", func(r *commitRecord) { r.Size = 31 }, false},
		{"gap", func(r *commitRecord) { r.Partitions[2].Offset = 11; r.Size = 31 }, false},
		{"overlap", func(r *commitRecord) { r.Partitions[2].Offset = 9; r.Size = 29 }, false},
		{"negative size", func(r *commitRecord) { r.Partitions[0].Size = -1 }, false},
		{"order", func(r *commitRecord) { r.Partitions[1].Partition = 0 }, false},
		{"negative partition", func(r *commitRecord) { r.Partitions[0].Partition = -1 }, false},
		{"partition too high", func(r *commitRecord) { r.Partitions[2].Partition = maxSide }, false},
		{"huge", func(r *commitRecord) { r.Partitions[2].Size = 1 << 62 }, false},
	}
	for _, tc := range cases {
		t.Run(tc.name, func(t *testing.T) {
			want := goodRecord()
			tc.change(&want)
			b, err := json.Marshal(want)
			if err != nil {
				t.Fatal(err)
			}
			got, err := decodeRecord(b, "job/1", 3)
			if tc.ok != (err == nil) || err != nil && !errors.Is(err, ErrRecord) {
				t.Fatalf("%s: %v", b, err)
			}
			if tc.ok && !reflect.DeepEqual(*got, want) {
				t.Fatalf("got %+v, want %+v", *got, want)
			}
		})
	}
	b, _ := json.Marshal(goodRecord())
	for _, bad := range [][]byte{nil, []byte("null"), []byte("[]"), b[:len(b)-1], append(bytes.Clone(b), '{'), make([]byte, maxRecord+1)} {
		if _, err := decodeRecord(bad, "job/1", 3); !errors.Is(err, ErrRecord) {
			t.Errorf("%.40q: %v", bad, err)
		}
	}
}

func FuzzDecodeRecord(f *testing.F) {
	b, _ := json.Marshal(goodRecord())
	f.Add(b)
	f.Add([]byte(`{"version":1,"job":"job/1","producer":3,"attempt":0,"key":"","size":0,"partitions":[]}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		r, err := decodeRecord(b, "job/1", 3)
		if err != nil {
			if !errors.Is(err, ErrRecord) {
				t.Fatalf("untyped error %v", err)
			}
			return
		}
		end := int64(0)
		for _, e := range r.Partitions {
			if e.Offset != end || e.Size < 0 {
				t.Fatalf("record %+v", r)
			}
			end += e.Size
		}
		if end != r.Size || (r.Size > 0) != strings.HasPrefix(r.Key, producerDir("job/1", 3)) {
			t.Fatalf("record %+v", r)
		}
	})
}
