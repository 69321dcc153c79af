package exchange

import "time"

const (
	// PublishedLoss is how many workers are lost per hour of a worker where nothing
	// better is known: 29,423 jobs with 1.2 deaths each in 79,186 machine-days (Dean,
	// Ghemawat: MapReduce, OSDI 2004, table 1). Nobody publishes it for Lambda.
	PublishedLoss = 29423 * 1.2 / (79186 * 24)
	// defaultWeight is the evidence that the prior counts as: the job's own
	// experience counts as much after so many function-hours.
	defaultWeight = 10
)

// Loss is the chance that a function is lost with what it has in memory only.
// It starts from a setting, and learns from what the job sees: it is the mean
// of a gamma distribution that is updated by a Poisson process. The zero value
// starts from [PublishedLoss] and has seen nothing.
type Loss struct {
	// PerHour is how many losses per function-hour are expected beforehand. 0 means
	// PublishedLoss, negative none at all.
	PerHour float64
	// Weight is how many function-hours of experience PerHour counts as. 0 means 10.
	Weight float64
	// Seen is how many functions the job has lost, in Hours function-hours.
	Seen  int
	Hours float64
}

// Rate gives the losses per function-hour to be expected now.
func (l Loss) Rate() float64 {
	if l.PerHour < 0 {
		l.PerHour = 0
	} else if l.PerHour == 0 {
		l.PerHour = PublishedLoss
	}
	if l.Weight <= 0 {
		l.Weight = defaultWeight
	}
	return (l.PerHour*l.Weight + float64(max(l.Seen, 0))) / (l.Weight + max(l.Hours, 0))
}

// Learn adds what was seen: functions that ran for so long in sum, and how many
// of them were lost.
func (l Loss) Learn(lost int, ran time.Duration) Loss {
	l.Seen += max(lost, 0)
	l.Hours += max(ran, 0).Hours()
	return l
}
