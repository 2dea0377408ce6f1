package puller

import (
	"encoding/json"
	"fmt"
	"math"
	"strconv"
	"strings"

	"github.com/docker/go-units"
)

// Memory is a number of bytes, 0 for no limit. In JSON it is that, or a string
// such as "512m" in binary units, as docker run takes it. What is not 0 and yet
// below one byte is refused: as 0 it would be no limit.
type Memory int64

// UnmarshalJSON implements json.Unmarshaler.
func (m *Memory) UnmarshalJSON(data []byte) error {
	if string(data) == "null" {
		return nil
	}
	var s string
	if json.Unmarshal(data, &s) != nil {
		s = string(data)
	}
	n, err := units.RAMInBytes(s)
	if err != nil {
		return Errorf(ErrInvalidRequest, "memory: %s is not a size; write bytes, or a string such as \"512m\"", Clip(string(data)))
	}
	switch {
	case n == 0 && !isZero(s):
		return Errorf(ErrInvalidRequest, "memory: %s is below one byte; leave it out, or write 0, for no limit", Clip(string(data)))
	case n < 0, n == math.MaxInt64: // it did not fit
		return Errorf(ErrInvalidRequest, "memory: %s is more than can be counted", Clip(string(data)))
	}
	*m = Memory(n)
	return nil
}

const (
	maxCPUs = 1024
	minCPUs = 0.01 // engines take no less, and near 0 it would be no limit
)

// CPUs is how many CPUs a container may use, 0 for no limit. What is not 0 and
// yet too small to tell from it is refused.
type CPUs float64

// UnmarshalJSON implements json.Unmarshaler.
func (c *CPUs) UnmarshalJSON(data []byte) error {
	if string(data) == "null" {
		return nil
	}
	var n json.Number
	if data[0] == '"' || json.Unmarshal(data, &n) != nil {
		return Errorf(ErrInvalidRequest, "cpus: %s is not a number such as 1.5", Clip(string(data)))
	}
	return c.Set(n.String())
}

// Set reads a number, as a flag's value.
func (c *CPUs) Set(s string) error {
	n, err := strconv.ParseFloat(s, 64)
	switch {
	case err != nil && !math.IsInf(n, 0):
		return Errorf(ErrInvalidRequest, "cpus: %q is not a number such as 1.5", Clip(s))
	case err != nil, n == 0 && !isZero(s), !CPUs(n).valid():
		return errCPUs(s)
	}
	*c = CPUs(n)
	return nil
}

// String returns the number, "" for no limit.
func (c *CPUs) String() string {
	if *c == 0 {
		return ""
	}
	return strconv.FormatFloat(float64(*c), 'g', -1, 64)
}

// Type is what help texts call it.
func (c *CPUs) Type() string { return "CPUs" }

// Check returns ErrInvalidRequest unless it is a limit that engines take, or none. NaN is
// neither.
func (c CPUs) Check() error {
	if c.valid() {
		return nil
	}
	return errCPUs(fmt.Sprint(float64(c)))
}

func (c CPUs) valid() bool { return c == 0 || c >= minCPUs && c <= maxCPUs }

// Nano returns it in billionths.
func (c CPUs) Nano() int64 { return int64(math.Round(float64(c) * 1e9)) }

func errCPUs(written string) error {
	return Errorf(ErrInvalidRequest, "cpus: %s is not between %g and %d, nor 0, which is no limit", Clip(written), minCPUs, maxCPUs)
}

// isZero reports whether a number is written as 0: one that only rounds to 0 has
// another digit before its exponent, or is hexadecimal.
func isZero(written string) bool {
	mantissa, _, _ := strings.Cut(strings.ToLower(written), "e")
	return !strings.ContainsAny(mantissa, "123456789x")
}
