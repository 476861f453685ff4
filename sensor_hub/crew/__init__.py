"""The crew: workers that keep a job going in a thread or a process, whatever happens to it.

`Worker` is what its owner has: it starts the job, hands requests to it, takes its news, starts it again. A `Host`
does the job; `ProcessHost` has it done by a child. Lines of devices and outputs are such jobs.
"""
