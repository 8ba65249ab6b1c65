"""One reader for each kind of log: a file or folder becomes rows of metrics under the names its logger gave them."""
