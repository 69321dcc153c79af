package natlab

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"runtime"
	"strconv"
)

// RequireVariable makes [Require] fail rather than skip if it is "1".
const RequireVariable = "BRADAWL_REQUIRE_NATLAB"

// Main is a TestMain for packages whose tests make labs:
//
//	func TestMain(m *testing.M) { natlab.Main(m) }
//
// It enters, runs the tests and exits. Where Enter fails the tests run all the same,
// and those that call [Require] skip or fail. Tests in labs wait more than they compute:
// unless -parallel says otherwise, atOnce of them run at the same time.
func Main(m interface{ Run() int }) {
	if err := Enter(); err != nil && !errors.Is(err, ErrUnavailable) {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	runMoreAtOnce()
	os.Exit(m.Run())
}

// atOnce is how many parallel tests run at the same time, whatever the number of cores.
const atOnce = 6

// runMoreAtOnce changes the default of -parallel, which is the number of cores.
func runMoreAtOnce() {
	if !flag.Parsed() {
		flag.Parse()
	}
	given := false
	flag.Visit(func(f *flag.Flag) { given = given || f.Name == "test.parallel" })
	if f := flag.Lookup("test.parallel"); f != nil && !given {
		_ = f.Value.Set(strconv.Itoa(max(atOnce, runtime.GOMAXPROCS(0)))) // a number always parses
	}
}

// TB is the part of testing.TB that [Require] uses.
type TB interface {
	Helper()
	Skipf(format string, args ...any)
	Fatalf(format string, args ...any)
}

// Require skips the test, with the reason, where no lab can be made. It fails the
// test instead if the environment has BRADAWL_REQUIRE_NATLAB=1.
func Require(t TB) {
	t.Helper()
	ns, err := currentNamespace()
	if err == nil {
		ns.close()
		err = entered(ns.id)
	}
	switch {
	case err == nil:
	case os.Getenv(RequireVariable) == "1":
		t.Fatalf("%s=1, but %v", RequireVariable, err)
	default:
		t.Skipf("%v", err)
	}
}
