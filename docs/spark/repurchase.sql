-- Days from a customer's purchase to the next, of the gaps that end in the window: the mean of all
-- gaps, the mean of customers' means, and the mean from the first purchase ever to the second.
WITH ranked AS (
    SELECT customer_id, in_window,
           datediff(day, lag(day) OVER turns) AS gap,
           row_number() OVER turns AS turn
      FROM bought
    WINDOW turns AS (PARTITION BY customer_id ORDER BY day, position)
), each AS (
    SELECT sum(gap) AS days,
           count(gap) AS gaps,
           sum(gap) FILTER (WHERE turn = 2) AS first_days
      FROM ranked WHERE in_window GROUP BY customer_id HAVING count(gap) > 0
), everybody AS (
    SELECT count(*) AS customers,
           coalesce(sum(gaps), 0) AS gaps,
           CAST(sum(days) AS DECIMAL(18, 0)) AS days,
           count(first_days) AS first_customers,
           CAST(sum(first_days) AS DECIMAL(18, 0)) AS first_days,
           sum(CAST(days / gaps AS DECIMAL(18, 9))) AS means
      FROM each
)
SELECT customers,
       gaps,
       CAST(round(days / nullif(gaps, 0), 6) AS DOUBLE) AS mean_gap,
       CAST(round(means / nullif(customers, 0), 6) AS DOUBLE) AS mean_of_means,
       first_customers,
       CAST(round(first_days / nullif(first_customers, 0), 6) AS DOUBLE) AS first_gap
  FROM everybody
