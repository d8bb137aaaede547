-- Recency, frequency and monetary value of every customer who bought in the window.
-- A score is 1 + floor(5 x the share of customers who are strictly worse). How many are worse is
-- counted for each different value, of which there are fewer than customers.
-- A value is compared with a mean as n x value with the sum, so that no mean is rounded.
WITH each AS (
    SELECT customer_id,
           datediff(:today, max(day)) AS r,
           count_if(in_window) AS f,
           sum(amount) FILTER (WHERE in_window) AS m
      FROM bought GROUP BY customer_id HAVING bool_or(in_window)
), everybody AS (
    SELECT count(*) AS n, sum(r) AS r_sum, sum(f) AS f_sum, sum(m) AS m_sum FROM each
), by_r AS (
    SELECT r, sum(count(*)) OVER (ORDER BY r DESC) - count(*) AS worse FROM each GROUP BY r
), by_f AS (
    SELECT f, sum(count(*)) OVER (ORDER BY f) - count(*) AS worse FROM each GROUP BY f
), by_m AS (
    SELECT m, sum(count(*)) OVER (ORDER BY m) - count(*) AS worse FROM each GROUP BY m
)
SELECT customer_id,
       r AS recency_days,
       f AS frequency,
       m AS monetary,
       CAST(1 + 5 * by_r.worse DIV n AS INT) AS r_score,
       CAST(1 + 5 * by_f.worse DIV n AS INT) AS f_score,
       CAST(1 + 5 * by_m.worse DIV n AS INT) AS m_score,
       concat(
           CASE WHEN m * n > m_sum THEN 'important-' ELSE 'general-' END,
           CASE WHEN r * n < r_sum THEN CASE WHEN f * n > f_sum THEN 'value' ELSE 'develop' END
                ELSE CASE WHEN f * n > f_sum THEN 'keep' ELSE 'win-back' END END
       ) AS segment
  FROM each JOIN by_r USING (r) JOIN by_f USING (f) JOIN by_m USING (m) CROSS JOIN everybody
